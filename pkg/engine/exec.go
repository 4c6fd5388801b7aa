package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/ocirt"
	"box/pkg/record"
	"box/pkg/spec/gen"
)

// ExecOptions say what to run in a running container.
type ExecOptions struct {
	Args       []string
	Env        []string // NAME=VALUE, beside the container's own
	User       string   // the container's user if empty
	WorkingDir string   // the container's working directory if empty
	Tty        bool     // on the caller's terminal
	Detach     bool     // do not wait; stdio is /dev/null
	Stdin      *os.File
	Stdout     *os.File
	Stderr     *os.File
}

// Exec runs a further command in a running container and returns its exit
// code. If the command cannot be started the error is a *record.StartError
// with code 126 or 127.
func (e *Engine) Exec(ctx context.Context, nameOrID string, o ExecOptions) (int, error) {
	r, err := e.find(ctx, nameOrID)
	if err != nil {
		return 0, err
	}
	if r.State.Status != record.Running {
		return 0, notRunning("exec in", r)
	}
	p, err := e.execProcess(r, o)
	if err != nil {
		return 0, fmt.Errorf("exec in container %s: %w", r.Name, err)
	}
	file, err := processFile(p)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	run := ocirt.ExecOptions{
		ProcessFile: ocirt.InheritedPath(0),
		Inherit:     []*os.File{file},
		Tty:         o.Tty,
		Detach:      o.Detach,
	}
	code, err := runExec(ctx, r, o, run)
	switch {
	case err == nil:
		return code, nil
	case ocirt.CommandExitCode(err) == 0 && ending(r):
		// What the runtime met on the way is no matter.
		return code, errdefs.New(errdefs.ErrConflict, "exec in container %s: it has ended meanwhile", r.Name)
	}
	return code, startError(ocirt.Explain(err, "exec in container %s", r.Name))
}

// ending tells whether a container that was running is over, or about to be: its
// first process is the last that goes.
func ending(r *record.Record) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.State.Pid))
	if err != nil {
		return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
	}
	// proc_pid_stat(5): the name, in parentheses, may hold anything; state and
	// flags are the first and the seventh field behind it.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 7 {
		return false
	}
	flags, err := strconv.ParseUint(fields[6], 10, 32)
	return err == nil && flags&flagExiting != 0
}

// flagExiting is PF_EXITING of the kernel's include/linux/sched.h.
const flagExiting = 0x4

// runExec calls the runtime with the streams that the process may have: none,
// the client's terminal (the process gets a pty of its own in the container),
// or pipes.
func runExec(ctx context.Context, r *record.Record, o ExecOptions, run ocirt.ExecOptions) (int, error) {
	switch {
	case o.Detach:
	case o.Tty:
		run.IO = ocirt.IO{Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr}
	default:
		streams, io, err := newRelay(o)
		if err != nil {
			return 0, err
		}
		defer streams.finish()
		run.IO = io
	}
	return runtimeOf(r).Exec(ctx, r.ID, run)
}

// startError gives a runtime's error the exit code for the command line.
func startError(err error) error {
	code := ocirt.CommandExitCode(err)
	if code == 0 {
		return err
	}
	return record.Failed(err, code).Err()
}

// execProcess is the container's own process with what the options change.
func (e *Engine) execProcess(r *record.Record, o ExecOptions) (*specs.Process, error) {
	if len(o.Args) == 0 {
		return nil, errdefs.New(errdefs.ErrInvalid, "no command given")
	}
	p, err := e.containerProcess(r.ID)
	if err != nil {
		return nil, err
	}
	p.Args = o.Args
	p.Terminal = o.Tty
	if o.WorkingDir != "" {
		if !strings.HasPrefix(o.WorkingDir, "/") {
			return nil, errdefs.New(errdefs.ErrInvalid, "working directory %q is not absolute", o.WorkingDir)
		}
		p.Cwd = o.WorkingDir
	}
	if o.User != "" {
		if err := setUser(p, r, o.User); err != nil {
			return nil, err
		}
	}
	if o.Tty && !hasEnv(p.Env, "TERM") {
		p.Env = append(p.Env, "TERM=xterm")
	}
	p.Env, err = mergeEnv(p.Env, o.Env)
	return p, err
}

func hasEnv(env []string, name string) bool {
	return slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
}

// containerProcess reads the process section of config.json, and no more: to
// decode the rest would take most of the command's time.
func (e *Engine) containerProcess(id string) (*specs.Process, error) {
	data, err := os.ReadFile(filepath.Join(e.records.Dir(id), record.ConfigFile))
	if err != nil {
		return nil, fmt.Errorf("read container's configuration: %w", err)
	}
	var c struct {
		Process *specs.Process `json:"process"`
	}
	if err := json.Unmarshal(data, &c); err != nil || c.Process == nil {
		return nil, errdefs.New(errdefs.ErrCorrupt, "read process of container %s: %w", id, errors.Join(err))
	}
	return c.Process, nil
}

// setUser looks the user up in the container as it is now, volumes included.
// The root is reached through the first process; the look-up stays below it.
func setUser(p *specs.Process, r *record.Record, user string) error {
	root, err := os.OpenFile(fmt.Sprintf("/proc/%d/root", r.State.Pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the container's root: %w", err)
	}
	defer root.Close()
	was := p.User.UID
	resolved, home, err := gen.ResolveUser(root, user)
	if err != nil {
		return err
	}
	p.User = resolved
	if p.Env, err = withHome(dropEnv(p.Env, "HOME"), home); err != nil {
		return err
	}
	switch {
	case was == resolved.UID || p.Capabilities == nil:
	case resolved.UID == 0:
		// What the container's root has is the bounding set.
		p.Capabilities.Effective = p.Capabilities.Bounding
		p.Capabilities.Permitted = p.Capabilities.Bounding
	default:
		p.Capabilities.Effective, p.Capabilities.Permitted, p.Capabilities.Ambient = nil, nil, nil
	}
	return nil
}

func dropEnv(env []string, name string) []string {
	return slices.DeleteFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
}

// processFile holds the process in memory: nothing to remove afterwards, and
// nothing for others to read.
func processFile(p *specs.Process) (*os.File, error) {
	data, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode process: %w", err)
	}
	fd, err := unix.MemfdCreate("process.json", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make process file: %w", err)
	}
	f := os.NewFile(uintptr(fd), "process.json")
	if _, err := f.WriteAt(data, 0); err != nil {
		return nil, errors.Join(fmt.Errorf("write process file: %w", err), f.Close())
	}
	return f, nil
}
