package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// runFile runs one bats file with one runtime and returns its tests. A file that
// hangs is ended after its time; the tests not reached are missing.
func (s *session) runFile(ctx context.Context, view, file, runtime string) ([]result, error) {
	work, err := os.MkdirTemp("", "box-runc-suite-")
	if err != nil {
		return nil, err
	}
	groups, err := planSandbox(filepath.Base(work), view)
	if err != nil {
		return nil, err
	}
	after, err := newSweeper(leavings{Cgroups: groups, Work: work})
	if err != nil {
		return nil, err
	}
	job, err := s.newJob(work, view, file, runtime)
	if err == nil {
		job.Cgroups, err = groups, groups.make()
	}
	if err != nil {
		return nil, errors.Join(err, after.finish())
	}
	output, runErr := s.start(ctx, job)
	if err := after.finish(); err != nil {
		return nil, errors.Join(runErr, err)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return s.read(file, output)
}

// read understands what bats printed.
func (s *session) read(file string, output []byte) ([]result, error) {
	results, err := parseTAP(bytes.NewReader(output))
	if err != nil || s.filter != "" {
		return results, err
	}
	if len(results) == 0 {
		results = []result{{Name: "(file)", Outcome: failed, Output: strings.Split(string(output), "\n")}}
	}
	if strings.HasPrefix(file, toolPrefix) {
		return results, nil
	}
	source, err := os.ReadFile(filepath.Join(s.suite.batsDir(), file+".bats"))
	if err != nil {
		return nil, err
	}
	names, err := declared(bytes.NewReader(source))
	return complete(results, names), err
}

// newJob lays out the working directory: the runtime, the suite's mount point, a
// directory for temporary files. Everything is passable for others, for containers in
// user namespaces must get through. Every runtime is called runc, as on a host
// where it has taken runc's place: some tests look for the name in help and version.
func (s *session) newJob(work, view, file, runtime string) (job, error) {
	for _, dir := range []string{"", "bin", "instead", "absent", "suite", "tmp", "aside", "home"} {
		path := filepath.Join(work, dir)
		if err := os.MkdirAll(path, 0o755); err != nil {
			return job{}, err
		}
		if err := os.Chmod(path, 0o755); err != nil {
			return job{}, err
		}
	}
	program := filepath.Join(work, "bin", "runc")
	data, err := os.ReadFile(runtime)
	if err == nil {
		err = os.WriteFile(program, data, 0o755)
	}
	if err != nil {
		return job{}, fmt.Errorf("copy the runtime: %w", err)
	}
	if err := writeStandIns(work); err != nil {
		return job{}, err
	}
	mounted := suite{dir: filepath.Join(work, "suite")}
	j := job{View: view, Work: work, Suite: s.suite.dir, Features: s.features}
	j.Dir, j.Args = s.command(mounted, file)
	j.Env = []string{
		"RUNC=" + program,
		"RUNTIME=" + program,
		"PATH=" + filepath.Join(work, "instead") + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:" + filepath.Join(work, "absent"),
		"TMPDIR=" + filepath.Join(work, "tmp"),
		"HOME=" + filepath.Join(work, "home"),
		"TERM=dumb", "LC_ALL=C",
	}
	if view == viewSystemd {
		j.Env = append(j.Env, "RUNC_USE_SYSTEMD=yes")
	}
	return j, nil
}

// standIns are scripts that take the place of programs: those in "instead" always, those
// in "absent" where the host has none. The tests ask the go command for the
// architecture alone, and udevadm to wait until udev is at rest, which it does by
// ending at once where there is no udev.
var standIns = map[string]string{
	"instead/go":     "echo " + runtime.GOARCH,
	"absent/udevadm": `test "$1" = settle`,
}

func writeStandIns(work string) error {
	for name, script := range standIns {
		if err := os.WriteFile(filepath.Join(work, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// command is what runs a file of tests, and where.
func (s *session) command(mounted suite, file string) (dir string, args []string) {
	if name, ok := strings.CutPrefix(file, toolPrefix); ok {
		return mounted.tools(), []string{filepath.Join(mounted.tools(), "bin", name)}
	}
	args = []string{"bats", "--tap"}
	if s.filter != "" {
		args = append(args, "-f", s.filter)
	}
	return mounted.dir, append(args, filepath.Join(mounted.batsDir(), file+".bats"))
}

// start runs the job in namespaces of its own and returns what bats printed.
func (s *session) start(ctx context.Context, j job) ([]byte, error) {
	arg, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.perFile)
	defer cancel()
	master, terminal, err := openTerminal()
	if err != nil {
		return nil, err
	}
	defer master.Close()
	defer terminal.Close()
	go io.Copy(io.Discard, master) // a full terminal would stop who writes to it
	cmd := exec.CommandContext(ctx, "/proc/self/exe", insideVerb, string(arg))
	out := newOutput(s.perTest, func() { _ = cmd.Process.Signal(endTest) })
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: jobFlags(j.View),
		Setsid:     true,
		Setctty:    true, // of standard input: runc opens /dev/tty
		Pdeathsig:  syscall.SIGKILL,
	}
	cmd.Cancel = func() error {
		j.Cgroups.thaw() // a frozen process of cgroup v1 does not even die
		return cmd.Process.Kill()
	}
	cmd.WaitDelay = 10 * time.Second
	err = cmd.Run()
	out.timer.Stop()
	return out.text.Bytes(), err
}

// jobFlags are the namespaces of a job. systemd must know processes by the numbers that
// runtimes tell it, so there is no pid namespace then; and since some tests call the
// network namespace that they are in that of process 1, no network namespace either.
func jobFlags(view string) uintptr {
	const flags = syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS
	if view == viewSystemd {
		return flags
	}
	return flags | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID
}

// output keeps what a job prints, and calls end each time that it has printed nothing for
// long: its test hangs. (Bats has a limit for tests of its own, which starts a
// process that every `wait` in a test waits for.)
type output struct {
	text  bytes.Buffer
	quiet time.Duration
	timer *time.Timer
}

func newOutput(quiet time.Duration, end func()) *output {
	o := &output{quiet: quiet}
	o.timer = time.AfterFunc(quiet, func() {
		o.timer.Reset(quiet)
		end()
	})
	return o
}

func (o *output) Write(p []byte) (int, error) {
	o.timer.Reset(o.quiet)
	return o.text.Write(p)
}

// openTerminal makes a pseudoterminal. Its slave is the terminal that a job's
// commands are controlled by.
func openTerminal() (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open terminal: %w", err)
	}
	err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	if err == nil {
		var fd int
		if fd, err = unix.IoctlRetInt(int(master.Fd()), unix.TIOCGPTPEER); err == nil {
			return master, os.NewFile(uintptr(fd), "terminal"), nil
		}
	}
	master.Close()
	return nil, nil, fmt.Errorf("open terminal: %w", err)
}
