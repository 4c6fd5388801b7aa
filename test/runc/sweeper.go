package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// sweepVerb makes this program a sweeper.
const sweepVerb = "sweep"

// leavings are what a job leaves behind: the kernel ties neither to a process.
type leavings struct {
	Cgroups sandbox
	Work    string // directory
}

// sweeper is a process of its own that removes the leavings of a job when it is told
// to, or when whoever would have told it is gone: the end of its standard input is both.
// So a runner that is killed leaves nothing.
type sweeper struct {
	cmd   *exec.Cmd
	alive *os.File
}

// newSweeper starts a sweeper, before there is anything to sweep.
func newSweeper(l leavings) (*sweeper, error) {
	arg, err := json.Marshal(l)
	if err != nil {
		return nil, err
	}
	read, alive, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	s := &sweeper{cmd: exec.Command("/proc/self/exe", sweepVerb, string(arg)), alive: alive}
	s.cmd.Stdin, s.cmd.Stderr = read, os.Stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // signals of the terminal are not for it
	if err := s.cmd.Start(); err != nil {
		alive.Close()
		return nil, err
	}
	return s, nil
}

// finish waits until all is removed.
func (s *sweeper) finish() error {
	if err := errors.Join(s.alive.Close(), s.cmd.Wait()); err != nil {
		return fmt.Errorf("clean up behind a job: %w", err)
	}
	return nil
}

// sweep is the sweeper's process. It returns the exit status.
func sweep(arg string) int {
	var l leavings
	err := json.Unmarshal([]byte(arg), &l)
	if err == nil {
		_, err = io.Copy(io.Discard, os.Stdin)
	}
	if err := errors.Join(err, l.remove()); err != nil {
		fmt.Fprintln(os.Stderr, "runc-suite:", err)
		return 1
	}
	return 0
}

// remove takes everything away, the groups as soon as the kernel has let go of the
// ended processes. It says so for no hierarchy of version 1: hence the ticks.
func (l leavings) remove() error {
	tick, end := time.NewTicker(10*time.Millisecond), time.After(10*time.Second)
	defer tick.Stop()
	for {
		l.Cgroups.thaw()
		err := l.Cgroups.tryRemove()
		if err == nil {
			return os.RemoveAll(l.Work)
		}
		select {
		case <-tick.C:
		case <-end:
			return errors.Join(err, os.RemoveAll(l.Work))
		}
	}
}
