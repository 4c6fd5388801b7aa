package runtime

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Names of the hooks, as the OCI runtime spec and runc's messages have them.
const (
	hookPrestart        = "prestart"
	hookCreateRuntime   = "createRuntime"
	hookCreateContainer = "createContainer"
	hookStartContainer  = "startContainer"
	hookPoststart       = "poststart"
	hookPoststop        = "poststop"
)

// hookOutputLimit is how much of a failing hook's output the error repeats.
const hookOutputLimit = 4096

// runner executes one hook's command, with the state on stdin.
type runner func(ctx context.Context, h *specs.Hook, stdin []byte) (output []byte, err error)

// runHooks runs a list of hooks in order. The first failure ends it; the words
// are runc's, for engines look for them.
func runHooks(ctx context.Context, name string, hooks []specs.Hook, st *State, run runner) error {
	if len(hooks) == 0 {
		return nil
	}
	stdin, err := json.Marshal(st)
	if err != nil {
		return err
	}
	for i := range hooks {
		if err := runHook(ctx, &hooks[i], stdin, run); err != nil {
			return fmt.Errorf("error running %s hook #%d: %w", name, i, err)
		}
	}
	return nil
}

func runHook(ctx context.Context, h *specs.Hook, stdin []byte, run runner) error {
	if h.Timeout != nil {
		limit := time.Duration(*h.Timeout) * time.Second
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, fmt.Errorf("timed out after %v", limit))
		defer cancel()
	}
	output, err := run(ctx, h, stdin)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w, output: %s", h.Path, err, strings.TrimSpace(string(output)))
}

// hostRunner runs hooks in the runtime's namespaces. They get their own
// environment and nothing else: neither ours nor, ever, the image's
// (CVE-2025-23266 was an LD_PRELOAD that an image gave to a hook).
func hostRunner(bundle string) runner {
	return func(ctx context.Context, h *specs.Hook, stdin []byte) ([]byte, error) {
		cmd := exec.CommandContext(ctx, h.Path)
		if len(h.Args) > 0 {
			cmd.Args = h.Args
		}
		cmd.Env = append([]string{}, h.Env...) // not nil: nil would inherit ours
		cmd.Dir = bundle
		in, err := memoryFile("hook-stdin", stdin)
		if err != nil {
			return nil, err
		}
		defer in.Close()
		out, err := memoryFile("hook-output", nil)
		if err != nil {
			return nil, err
		}
		defer out.Close()
		cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, out
		err = cmd.Run()
		return tail(out, hookOutputLimit), err
	}
}

// memoryFile makes a file in memory, positioned at its start. Files instead of
// pipes: a hook that leaves a daemon behind with its output open does not hold us
// up, and one that writes gigabytes has no reader to fill.
func memoryFile(name string, data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.WriteAt(data, 0); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// tail reads the last n bytes of a file.
func tail(f *os.File, n int64) []byte {
	st, err := f.Stat()
	if err != nil {
		return nil
	}
	from := max(0, st.Size()-n)
	data := make([]byte, st.Size()-from)
	got, _ := f.ReadAt(data, from)
	return data[:got]
}
