package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/internal/strictjson"
	"box/pkg/runtime"
)

// globals are the flags before the verb, and the log they describe.
type globals struct {
	root, log, logFormat   string
	rootless, criu         string
	debug, systemd         bool
	version, help, logFail bool
	ownRoot                bool  // a flag named the root
	lent                   bool  // stderr is that of a container's process
	cgroupless             *bool // --rootless, if it says
	inherited              int
}

func (g *globals) flags() []flag {
	return []flag{
		text(&g.root, "DIR", "where the state of containers is kept (default: "+systemRoot+")", "root"),
		text(&g.log, "FILE", "append warnings and errors to FILE (default: stderr)", "log"),
		text(&g.logFormat, "FORMAT", `"text" (default) or "json"`, "log-format"),
		on(&g.debug, "log what is done", "debug"),
		on(&g.systemd, "have systemd make the cgroups; cgroupsPath is then slice:prefix:name", "systemd-cgroup"),
		text(&g.rootless, "BOOL", `do without cgroups where they are denied: "true", "false" or "auto" (default)`, "rootless"),
		text(&g.criu, "PATH", "the criu binary for checkpoint and restore (default: criu, in PATH)", "criu"),
		on(&g.version, "print the version", "version", "v"),
		on(&g.help, "show this help", "help", "h"),
	}
}

// check refuses what the flags ask for and we cannot do, and settles the root.
func (g *globals) check() error {
	switch {
	case g.logFormat != "text" && g.logFormat != "json":
		return errdefs.New(errdefs.ErrInvalid, "--log-format: %q is neither text nor json", g.logFormat)
	case g.rootless != "" && g.rootless != "auto":
		b, err := strconv.ParseBool(g.rootless)
		if err != nil {
			return errdefs.New(errdefs.ErrInvalid, "--rootless: %q is neither auto nor a boolean", g.rootless)
		}
		g.cgroupless = &b
	}
	if g.ownRoot = g.root != ""; !g.ownRoot {
		g.root = rootFor(os.Getenv("XDG_RUNTIME_DIR"), os.Geteuid(), os.Getenv("USER"), runtime.InUserNamespace)
	}
	root, err := filepath.Abs(g.root)
	g.root = root
	return err
}

// systemRoot is where root keeps the state of containers.
const systemRoot = "/run/box-runtime"

// rootFor is the state root when no flag names one: below dir, which is
// XDG_RUNTIME_DIR, for those who may not write to /run. Root itself has that variable
// too, set by logins and by sudo to directories that vanish with the session, and must
// not follow it; in a user namespace root is somebody else.
func rootFor(dir string, euid int, user string, userns func() bool) string {
	if dir == "" || euid == 0 && (!userns() || user == "root") {
		return systemRoot
	}
	return filepath.Join(dir, "box-runtime")
}

// finish reports err in the way that callers read it, and returns the exit status.
// With --log, the last line of that file is the message (containerd's shim shows it),
// and stderr stays clean if it is a container's. If not, it has the message too, as with
// runc: whether a kill came too late, the shim reads there and not in the log.
func (g *globals) finish(err error) int {
	code := exitCode(err)
	if _, quiet := err.(exitStatus); err == nil || quiet {
		return code
	}
	if g.log != "" || g.logFormat == "json" {
		g.append("error", err.Error())
		if g.log == "" || g.logFail || g.lent {
			return code
		}
	}
	if _, ok := errors.AsType[*runtime.ExecError](err); ok {
		fmt.Fprintln(os.Stderr, err) // as a shell has it; scripts compare the whole line
		return code
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", speaker(err), err)
	if hint := errdefs.Hint(err); hint != "" {
		fmt.Fprintf(os.Stderr, "  %s\n", hint)
	}
	return code
}

func (g *globals) warn(message string) { g.append("warning", message) }

func (g *globals) debugf(format string, args ...any) {
	if g.debug {
		g.append("debug", fmt.Sprintf(format, args...))
	}
}

// append adds one record to the log. A log that cannot be written to must not
// stop a container; the message then goes to stderr.
func (g *globals) append(level, message string) {
	w := io.Writer(onTheWay{})
	if g.log != "" && !g.logFail {
		f, err := os.OpenFile(g.log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
		if err == nil {
			defer f.Close()
			w = f
		} else {
			g.logFail = true
			fmt.Fprintf(w, "box-runtime: %v\n", err)
		}
	}
	_, _ = w.Write(g.line(level, message))
}

// onTheWay is stderr for what is written before the work is done. Through os.Stderr, a
// reader that has gone would end us there and then (SIGPIPE, see os/signal).
type onTheWay struct{}

func (onTheWay) Write(p []byte) (int, error) { return unix.Write(unix.Stderr, p) }

func (g *globals) line(level, message string) []byte {
	now := time.Now().Format(time.RFC3339)
	if g.logFormat != "json" {
		return fmt.Appendf(nil, "time=%q level=%s msg=%q\n", now, level, message)
	}
	text := strictjson.AppendString([]byte(`{"level":`), level)
	text = strictjson.AppendString(append(text, `,"msg":`...), message)
	text = strictjson.AppendString(append(text, `,"time":`...), now)
	return append(text, "}\n"...)
}

// printVersion writes the three lines that dockerd and podman read.
func printVersion(w io.Writer) {
	fmt.Fprintf(w, "%s version %s\ncommit: %s\nspec: %s\n", program(), version, commit, specs.Version)
}
