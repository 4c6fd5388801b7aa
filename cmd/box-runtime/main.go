// The Go runtime would keep the files of its cgroup's CPU limit open and read them
// again all the time, to adapt GOMAXPROCS. We are gone before that could matter, or
// only wait.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command box-runtime is an OCI runtime: it turns a bundle (a directory with
// config.json and a root file system) into a container, and has runc's command
// line, so that every engine that can call runc can call it.
//
// It is the hand's side of pkg/runtime: one file per verb, each of which parses
// its flags, calls one method and prints the answer. Start-up time is part of its
// purpose; flags are parsed by hand (flags.go) and nothing heavy is linked in.
package main

import (
	"context"
	"errors"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"box/pkg/runtime"
)

// version is the release and commit the state of the source; the build sets both with
// -ldflags -X.
var (
	version = "0.1.0-dev"
	commit  = "unknown"
)

func main() {
	growStack(0)
	os.Exit(run(os.Args))
}

// growStack has the stack grow to what the verbs come to need, now that there is nothing
// on it. On the way to there it would grow again and again, and each time the Go runtime
// looks up everybody who is on it, in tables that nobody has touched yet: two hundredths
// of a verb's time.
//
//go:noinline
func growStack(use int) byte {
	if use == 0 {
		return 0
	}
	var room [24 << 10]byte // is made room for by whoever enters the function
	room[use] = 1
	return room[len(room)-use]
}

func run(args []string) int {
	// The longest-lived verb holds a few hundred kilobytes, most end within two
	// milliseconds: a collection would only ever be paid, never earn.
	debug.SetGCPercent(-1)
	g := &globals{logFormat: "text", inherited: hideInherited()}
	err := dispatch(context.Background(), g, args[1:])
	return g.finish(err)
}

// hideInherited marks every descriptor above stdio close-on-exec: what the caller
// left open must not reach a container or a hook (CVE-2024-21626). Those that
// --preserve-fds names are handed over one by one; it returns how many there are.
func hideInherited() int {
	n := runtime.CountInherited()
	_ = unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	return n
}

// exitStatus is an error that ends the program with a status and no message: the
// exit code of the container's own command.
type exitStatus int

func (exitStatus) Error() string { return "container exited" }

// statusError is an error with an exit status of its own; runc's exec fails with
// 255, so that scripts can tell its failure from the command's.
type statusError struct {
	error
	status int
}

func (e statusError) Unwrap() error { return e.error }

// verbError is an error of a verb that is named in front of the words on stderr:
// "runc run failed: …", with the name that we were called by. Its text has no such
// beginning: callers that read the log know what they have called.
type verbError struct {
	error
	verb string
}

func (e verbError) Unwrap() error { return e.error }

// failed names the verb, if there is an error.
func failed(verb string, err error) error {
	if err == nil {
		return nil
	}
	return verbError{err, verb}
}

// speaker is what stands before an error on stderr.
func speaker(err error) string {
	if e, ok := errors.AsType[verbError](err); ok {
		return program() + " " + e.verb + " failed"
	}
	return "box-runtime"
}

func exitCode(err error) int {
	var status exitStatus
	var withStatus statusError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return int(status)
	case errors.As(err, &withStatus):
		return withStatus.status
	}
	return 1
}
