package runtime

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/pkg/launch"
	"box/pkg/plan"
	"box/pkg/spec"
)

// ExecError is the failure of the command's execve itself, as Start and Exec return it.
type ExecError = plan.ExecError

// Start lets a created container execute its command, and returns when it has: or
// why it has not.
func (r *Runtime) Start(ctx context.Context, id string) error {
	return r.change(id, &verbStart, func(c *container) error { return r.start(ctx, c) })
}

// start does the work of Start; the caller holds the lock.
func (r *Runtime) start(ctx context.Context, c *container) error {
	hooks, err := c.startHooks()
	if err != nil {
		return err
	}
	st := c.State
	st.Status = Created
	if err := runHooks(ctx, hookStartContainer, hooks.StartContainer, &st, c.commandRunner(r)); err != nil {
		return errors.Join(err, c.killInit())
	}
	if err := c.letGo(); err != nil {
		return err
	}
	st.Status = Running
	if err := runHooks(ctx, hookPoststart, hooks.Poststart, &st, hostRunner(c.Bundle)); err != nil {
		return errors.Join(err, c.killInit()) // OCI runtime spec, lifecycle step 10
	}
	return nil
}

// startHooks returns the container's hooks; none without a look at its config.
func (c *container) startHooks() (*specs.Hooks, error) {
	if !c.Hooks {
		return &specs.Hooks{}, nil
	}
	config, err := c.config()
	if err != nil {
		return nil, err
	}
	return config.Hooks, nil
}

// letGo gives the word to the waiting program, and learns what comes of it. The
// program has the fifo open both ways: it takes the word from it, writes to it why it
// could not execute the command, and lets go of it when it has executed it or is dead.
func (c *container) letGo() error {
	name := c.path(startFifo)
	// Opened first, so that we see the program let go.
	result, err := openFifo(name, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer unix.Close(result)
	begin, err := openFifo(name, unix.O_WRONLY)
	if err != nil {
		return err
	}
	_, err = unix.Write(begin, []byte(plan.Word))
	if err := errors.Join(err, unix.Close(begin)); err != nil {
		return fmt.Errorf("start container %s: %w", c.ID, err)
	}
	if err := c.result(result); err != nil {
		return err
	}
	return os.Remove(name)
}

// result waits until no writer has the fifo open, and reads what is in it then:
// nothing when the command was executed, the record of a failure, or our own word if
// the program was killed before it took it. Reading earlier could take that away.
func (c *container) result(fifo int) error {
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fifo)}}, -1) // for POLLHUP, which need not be asked for
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return os.NewSyscallError("poll", err)
		}
	}
	var buf [launch.RecordSize]byte
	n, err := unix.Read(fifo, buf[:])
	switch {
	case err != nil:
		return &os.PathError{Op: "read", Path: c.path(startFifo), Err: err}
	case n == 0:
		return nil
	case n < len(buf):
		return verbStart.refusal(c.ID, Stopped)
	}
	r, err := launch.ReadRecord(bytes.NewReader(buf[:]))
	if err != nil {
		return err
	}
	return &ExecError{Command: c.Command, Errno: r.Errno}
}

// openFifo opens one end without waiting for the other.
func openFifo(name string, flags int) (int, error) {
	fd, err := unix.Open(name, flags|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return fd, nil
}

// config reads the container's configuration as it was at create.
func (c *container) config() (*specs.Spec, error) {
	data, err := readFile(c.path(configFile))
	if errors.Is(err, fs.ErrNotExist) {
		err = cmp.Or(c.missing(), err)
	}
	if err != nil {
		return nil, err
	}
	return spec.Decode(c.path(configFile), data)
}
