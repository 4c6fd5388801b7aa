package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/sys"
	"box/pkg/launch"
)

// This file hands the listener of a seccomp filter to the agent that answers the calls
// which the filter leaves open (SCMP_ACT_NOTIFY; config-linux.md, seccomp):
//
//	program                              parent                      agent
//	loads the filter, gets the listener
//	markListener with its number     →
//	waits                                copies it (pidfd_getfd)
//	                                     connects, sends it      →   answers from here on
//	closes it, goes on               ←   word
//
// The program waits, for every later call of it may need the agent. It does not keep
// the listener: only when the agent has the last copy do calls fail, instead of hanging,
// once the agent is gone.

// markListener is the report that carries the listener's number in the program.
const markListener = "load the seccomp filter and tell its listener"

// listens tells whether loading the filter makes a listener.
func listens(flags uint) bool { return flags&unix.SECCOMP_FILTER_FLAG_NEW_LISTENER != 0 }

// tellListener adds the program's half, after the step that has loaded the filter.
func (b *assembly) tellListener(p *process, listener launch.Slot) {
	b.plan.MarkValue(markListener, "the parent takes it to the agent; write(2) is never left to the agent", listener)
	b.plan.Await(launch.Int(p.permit), "wait for the seccomp agent to be told", "the next call may be one of those it answers")
	b.add(launch.Step{
		Name: "close the listener", Call: launch.Close, Args: []launch.Arg{listener},
		Why:   "calls must fail when the agent is gone; with ours open they would wait",
		Allow: []launch.Allow{{Errno: launch.AnyErrno}}, // as the agent likes
	})
}

// agent is who gets a listener, with what is sent along.
type agent struct {
	path, metadata string
	state          *specs.State
}

// newAgent returns the agent that a container's profile names.
func newAgent(p *specs.LinuxSeccomp, st *State, status specs.ContainerState) *agent {
	return &agent{p.ListenerPath, p.ListenerMetadata, &specs.State{
		Version: st.OCIVersion, ID: st.ID, Status: status, Pid: st.Pid, Bundle: st.Bundle, Annotations: st.Annotations,
	}}
}

// introduce is the parent's half: it waits for the program to load its filter, brings
// the listener to the agent and lets the program go on.
func (a *agent) introduce(proc *launch.Process, permit *os.File) error {
	mark, number, err := proc.ReportValue()
	switch {
	case err != nil:
		return err
	case mark != markListener:
		return fmt.Errorf("launch program: reached %q before %q", mark, markListener)
	}
	listener, err := sys.PidfdGetfd(proc.Pidfd, int(number))
	if err != nil {
		return fmt.Errorf("fetch the seccomp listener: %w", err)
	}
	defer listener.Close()
	if err := a.send(proc.Pid, listener); err != nil {
		return err
	}
	return permitted(permit)
}

// send sends one container process state over a connection of its own, as the
// specification demands. The words for a failed connection are runc's.
func (a *agent) send(pid int, listener *os.File) error {
	data, err := json.Marshal(&specs.ContainerProcessState{
		Version: specs.Version, Fds: []string{specs.SeccompFdName}, Pid: pid, Metadata: a.metadata, State: *a.state,
	})
	if err != nil {
		return err
	}
	conn, err := sys.DialUnix(a.path)
	if err != nil {
		return fmt.Errorf("failed to connect with seccomp agent specified in the seccomp profile: %w", err)
	}
	defer conn.Close()
	if err := sys.SendFiles(int(conn.Fd()), data, listener); err != nil {
		return fmt.Errorf("send the seccomp listener to the agent at %s: %w", a.path, err)
	}
	return nil
}

// permitted gives the word to a program that waits at its permit pipe. That the program is
// dead is left to those who read its reports.
func permitted(permit *os.File) error {
	if _, err := permit.WriteString(word); err != nil && !errors.Is(err, unix.EPIPE) {
		return fmt.Errorf("let the launch program go on: %w", err)
	}
	return nil
}
