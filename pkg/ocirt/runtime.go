package ocirt

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"box/internal/errdefs"
)

// Runtime names a runtime program and the directory in which it keeps its
// state. The zero Root leaves the choice to the program.
type Runtime struct {
	Path string // absolute path of the program
	Root string // value of --root; several engines can share a program but must not share a root
}

// DefaultName is the runtime used when the user names none.
const DefaultName = "box-runtime"

// Find resolves what a user wrote for --runtime: empty for DefaultName, a
// path, or a program name that is looked for beside the running executable,
// in ../libexec/box, and in PATH, in this order: an installed box uses the
// runtime it was built with even when PATH holds another one.
func Find(nameOrPath string) (string, error) {
	return FindProgram(nameOrPath, DefaultName)
}

// FindProgram is Find with another default; box finds its monitor with it.
func FindProgram(nameOrPath, fallback string) (string, error) {
	if nameOrPath == "" {
		nameOrPath = fallback
	}
	if strings.ContainsRune(nameOrPath, '/') {
		return findPath(nameOrPath)
	}
	if self, err := os.Executable(); err == nil {
		dir := filepath.Dir(self)
		for _, p := range []string{filepath.Join(dir, nameOrPath), filepath.Join(dir, "..", "libexec", "box", nameOrPath)} {
			if isExecutable(p) {
				return p, nil
			}
		}
	}
	p, err := exec.LookPath(nameOrPath)
	if err != nil {
		return "", errdefs.New(errdefs.ErrNotFound, "find program %s: neither beside this program, nor in ../libexec/box, nor in PATH", nameOrPath)
	}
	return filepath.Abs(p)
}

func findPath(path string) (string, error) {
	if !isExecutable(path) {
		return "", errdefs.New(errdefs.ErrNotFound, "find program %s: not an executable file", path)
	}
	return filepath.Abs(path)
}

func isExecutable(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0
}

// Name is the base name of the program, for records and `inspect`.
func (r Runtime) Name() string { return filepath.Base(r.Path) }

// State is what `state` prints (runtime-spec, "State", plus runc's rootfs,
// created and owner, which box does not need).
type State struct {
	ID     string `json:"id"`
	Status string `json:"status"` // creating, created, running, paused, stopped
	Pid    int    `json:"pid"`
	Bundle string `json:"bundle"`
}

// State asks for the state of id.
func (r Runtime) State(ctx context.Context, id string) (State, error) {
	var out bytes.Buffer
	c := r.command(ctx, "state", id)
	c.cmd.Stdout = &out
	if err := c.run(); err != nil {
		return State{}, err
	}
	var st State
	if err := json.Unmarshal(out.Bytes(), &st); err != nil {
		return State{}, errdefs.New(errdefs.ErrCorrupt, "read state of %s: %w", id, err)
	}
	return st, nil
}

// Start lets a created container run its command.
func (r Runtime) Start(ctx context.Context, id string) error {
	return r.command(ctx, "start", id).run()
}

// Kill sends sig to the container's first process, or to all with all set. A
// container that is gone or has stopped is ErrNotFound or ErrConflict.
func (r Runtime) Kill(ctx context.Context, id string, sig syscall.Signal, all bool) error {
	args := []string{"kill"}
	if all {
		args = append(args, "--all")
	}
	return r.command(ctx, append(args, id, strconv.Itoa(int(sig)))...).run()
}

// Delete removes what the runtime keeps of id. With force a living container
// is killed first, and one that does not exist is no error.
func (r Runtime) Delete(ctx context.Context, id string, force bool) error {
	args := []string{"delete"}
	if force {
		args = append(args, "--force")
	}
	err := r.command(ctx, append(args, id)...).run()
	if force && isClass(err, errdefs.ErrNotFound) {
		return nil
	}
	return err
}

// Features returns the JSON document of `features`, as it is.
func (r Runtime) Features(ctx context.Context) ([]byte, error) {
	var out bytes.Buffer
	c := r.command(ctx, "features")
	c.cmd.Stdout = &out
	err := c.run()
	return out.Bytes(), err
}

// Version returns the first line of `--version`.
func (r Runtime) Version(ctx context.Context) (string, error) {
	var out bytes.Buffer
	c := r.command(ctx, "--version")
	c.cmd.Stdout = &out
	if err := c.run(); err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(out.String(), "\n")
	return line, nil
}

// drainAfterKill bounds how long a cancelled call waits for pipes that a
// process of the container may still hold.
const drainAfterKill = 2 * time.Second
