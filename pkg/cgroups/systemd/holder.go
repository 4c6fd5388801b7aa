package systemd

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"box/pkg/launch"
)

// Holder is a process that does nothing until it is released or its maker is gone.
type Holder struct {
	Pid  int
	proc *launch.Process
	stay *os.File // our end of the pipe that it reads from
}

// Descriptors of the holder's program.
const (
	holdFD   = 3
	reportFD = 4
)

// NewHolder starts a holder.
func NewHolder() (*Holder, error) {
	plan := &launch.Plan{ReportFD: reportFD}
	plan.Await(launch.Int(holdFD), "hold the scope", "systemd starts no scope without a process, and ours is born in it")
	program, err := launch.NewProgram(plan)
	if err != nil {
		return nil, err
	}
	defer program.Close()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	read, stay := os.NewFile(uintptr(fds[0]), "holder's pipe"), os.NewFile(uintptr(fds[1]), "holder's pipe")
	defer read.Close()
	proc, err := program.Start(launch.Attr{Name: "box-scope", Files: []*os.File{nil, nil, nil, read}, Dir: "/"})
	if err != nil {
		stay.Close()
		return nil, fmt.Errorf("start the holder of a scope: %w", err)
	}
	return &Holder{proc.Pid, proc, stay}, nil
}

// Release ends the holder.
func (h *Holder) Release() error {
	err := h.proc.Kill()
	_, werr := h.proc.Wait()
	h.proc.Close()
	h.stay.Close()
	if err == nil {
		err = werr
	}
	return err
}
