package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/launch"
	"box/pkg/spec"
)

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

// letGo gives the word to the waiting program, and reads from the result fifo what
// comes of it. The result fifo is opened first: the program holds its other end
// until execve closes it.
func (c *container) letGo() error {
	result, err := openFifo(c.path(resultFifo), unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer result.Close()
	begin, err := openFifo(c.path(startFifo), unix.O_WRONLY)
	if errors.Is(err, unix.ENXIO) {
		return errdefs.New(errdefs.ErrConflict, "cannot start a container that has stopped: %s", c.ID)
	}
	if err != nil {
		return err
	}
	_, err = begin.WriteString(word)
	if err := errors.Join(err, begin.Close()); err != nil {
		return fmt.Errorf("start container %s: %w", c.ID, err)
	}
	if err := c.result(result); err != nil {
		return err
	}
	return errors.Join(os.Remove(c.path(startFifo)), os.Remove(c.path(resultFifo)))
}

// result waits for execve. End of file is success, for only execve (or death, which
// the container's exit will tell) closes the program's end without a record.
func (c *container) result(f *os.File) error {
	r, err := launch.ReadRecord(f)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return err
	}
	return &ExecError{c.Command, r.Errno}
}

// openFifo opens without waiting for the other side, and then makes the descriptor
// an ordinary, blocking one.
func openFifo(path string, flags int) (*os.File, error) {
	fd, err := unix.Open(path, flags|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// config reads the container's configuration as it was at create.
func (c *container) config() (*specs.Spec, error) {
	data, err := readFile(c.path(configFile))
	if err != nil {
		return nil, err
	}
	return spec.Decode(c.path(configFile), data)
}
