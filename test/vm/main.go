// Command vm runs a command in a virtual machine with Debian's kernel, the host's
// files and pure cgroup v2:
//
//	go run ./test/vm [--user] [--systemd] [--writable DIR]... [--env NAME=VALUE]...
//	                 [--timeout D] [--memory MIB] [--cpus N] [--append ARGS] [--console] -- CMD...
//
// The exit status is the command's, 124 if the time was over, 125 if the machine
// failed. See package internal/testkit/vm, whose guest this program is too.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"

	"box/internal/testkit/vm"
	"box/internal/testkit/vm/guest"
)

func main() {
	switch {
	case guest.IsInit():
		guest.Main()
	case len(os.Args) > 1 && os.Args[1] == vm.ShareCommand:
		fmt.Fprintln(os.Stderr, "vm:", vm.Share(os.Args[2:]))
		os.Exit(vm.Failed)
	case len(os.Args) > 1 && os.Args[1] == guest.ServeCommand:
		fmt.Fprintln(os.Stderr, "vm:", guest.Serve())
		os.Exit(vm.Failed)
	}
	c, argv, err := options(os.Args[1:])
	if err != nil {
		os.Exit(2) // the flag package has said why
	}
	if why := vm.Missing(); why != "" {
		fmt.Fprintln(os.Stderr, "vm:", why)
		os.Exit(vm.Failed)
	}
	// An interrupted run clears up like any other.
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	status, err := vm.Run(ctx, c, argv)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
	}
	os.Exit(status)
}

// options reads the command line.
func options(args []string) (vm.Config, []string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return vm.Config{}, nil, err
	}
	c := vm.Config{Dir: dir, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	flags := flag.NewFlagSet("vm", flag.ContinueOnError)
	user := flags.Bool("user", false, "run as uid 1000 with subordinate ids and a delegated cgroup")
	systemd := flags.Bool("systemd", false, "run as a unit below systemd, with D-Bus up; with --user below the user's own")
	console := flags.Bool("console", false, "show the kernel's console at the end")
	flags.DurationVar(&c.Timeout, "timeout", 0, "end the machine after this time (2m, with systemd 4m)")
	flags.IntVar(&c.Memory, "memory", 0, "memory in MiB (1024)")
	flags.IntVar(&c.CPUs, "cpus", 0, "number of processors (2)")
	list := func(to *[]string) func(string) error {
		return func(s string) error { *to = append(*to, s); return nil }
	}
	flags.Func("writable", "a directory of the host that may be written to (repeatable)", list(&c.Writable))
	flags.Func("env", "NAME=VALUE for the command (repeatable)", list(&c.Env))
	flags.Func("append", "arguments for the kernel", func(s string) error { c.KernelArgs = strings.Fields(s); return nil })
	if err := flags.Parse(args); err != nil {
		return c, nil, err
	}
	switch {
	case *systemd && *user:
		c.Mode = vm.SystemdUser
	case *systemd:
		c.Mode = vm.Systemd
	case *user:
		c.Mode = vm.User
	}
	if *console {
		c.Console = os.Stderr
	}
	return c, flags.Args(), nil
}
