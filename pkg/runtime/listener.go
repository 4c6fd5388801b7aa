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
	"box/pkg/plan"
)

// This file hands the listener of a seccomp filter to the agent that answers the calls
// which the filter leaves open (SCMP_ACT_NOTIFY; config-linux.md, seccomp):
//
//	program                              parent                      agent
//	loads the filter, gets the listener
//	plan.MarkListener with its number     →
//	waits                                copies it (pidfd_getfd)
//	                                     connects, sends it      →   answers from here on
//	closes it, goes on               ←   word
//
// The program waits, for every later call of it may need the agent. It does not keep
// the listener: only when the agent has the last copy do calls fail, instead of hanging,
// once the agent is gone.

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
	case mark != plan.MarkListener:
		return fmt.Errorf("launch program: reached %q before %q", mark, plan.MarkListener)
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
	if _, err := permit.WriteString(plan.Word); err != nil && !errors.Is(err, unix.EPIPE) {
		return fmt.Errorf("let the launch program go on: %w", err)
	}
	return nil
}
