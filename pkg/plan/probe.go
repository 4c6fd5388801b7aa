package plan

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"box/pkg/launch"
)

// This file has the steps that find the command's file.

// Offsets in struct statx (statx(2)).
const (
	statxSize  = 256
	statxMode  = 28
	statxMajor = 128
	statxMinor = 132
)

// probe adds the steps that look for the command with the command's own
// credentials, so that create (not start, and not the container's stderr) says
// that it is missing. The words are runc's: engines derive the exit codes 126 and
// 127 from them. The path that was found is left in b.command.
func (b *Assembly) probe(p *Process) {
	name := p.spec.Args[0]
	b.command = b.Plan.Slot("command")
	b.found = b.Plan.Label()
	if p.enter && (strings.HasPrefix(name, "/proc/") || strings.HasPrefix(name, "/dev/")) {
		b.choose(name) // for itself, which it is not yet, /proc/self leads elsewhere or nowhere
		return
	}
	if strings.Contains(name, "/") {
		b.probePath(name)
		b.Plan.Place(b.found)
		return
	}
	if path, ok := lookup(p.spec.Env, "PATH"); ok {
		for _, dir := range strings.Split(path, ":") {
			b.candidate(join(dir, name))
		}
	}
	b.say(launch.Step{
		Name: "find " + name + " in PATH", Call: launch.Set,
		Args: launch.Args{launch.Int(-int(unix.ENOENT))}, Into: b.command,
		Why: "no directory of PATH has it, or there is no PATH; callers make exit code 127 of these words",
	}, func(unix.Errno) string { return fmt.Sprintf("exec: %q: executable file not found in $PATH", name) })
	b.Plan.Place(b.found)
}

// join is path.Join without its cleaning: the kernel resolves the path, and the
// command sees in its argv what the user wrote. An empty entry of PATH is the
// working directory (execvp(3)).
func join(dir, name string) string {
	if dir == "" {
		return "./" + name
	}
	return strings.TrimSuffix(dir, "/") + "/" + name
}

// probePath probes a command that is given by path; each refusal has its words.
func (b *Assembly) probePath(path string) {
	buf, mode := launch.Buffer("stat", statxSize), b.Plan.Slot("mode")
	words := func(e unix.Errno) string {
		if e == unix.EACCES {
			return fmt.Sprintf("exec: %q: permission denied", path)
		}
		return fmt.Sprintf("exec: %q: stat %s: %s", path, path, e.Error())
	}
	for _, s := range regularFile(path, buf, mode) {
		b.say(s, words)
	}
	b.choose(path)
}

// choose takes a path for the command as it is.
func (b *Assembly) choose(path string) {
	b.add(launch.Step{
		Name: "choose " + path, Call: launch.Set, Args: launch.Args{launch.Text(path)}, Into: b.command,
		Why: "this is what will be executed",
	})
}

// candidate probes one entry of PATH; whatever is wrong with it, the next is tried.
func (b *Assembly) candidate(path string) {
	buf, mode := b.stat, b.Plan.Slot("mode")
	next := b.Plan.Label()
	for _, s := range regularFile(path, buf, mode) {
		s.Allow = []launch.Allow{{Errno: launch.AnyErrno, To: next}}
		b.add(s)
	}
	b.add(launch.Step{
		Name: "choose " + path, Call: launch.Set, Args: launch.Args{launch.Text(path)}, Into: b.command,
		Why: "the first that fits", Then: b.found,
	})
	b.Plan.Place(next)
}

// regularFile are the steps that succeed if path is an executable regular file.
func regularFile(path string, buf *launch.Data, mode launch.Slot) []launch.Step {
	return []launch.Step{
		{
			Name: "look for " + path, Call: launch.Faccessat2,
			Args: launch.Args{launch.Cwd, launch.Text(path), launch.Int(unix.X_OK), launch.Int(unix.AT_EACCESS)},
			Why:  "with the command's own credentials",
		},
		{
			Name: "stat " + path, Call: launch.Statx,
			Args: launch.Args{launch.Cwd, launch.Text(path), launch.Nil, launch.Int(unix.STATX_TYPE), buf},
			Why:  "directories can be executable too",
		},
		{
			Name: "read the type of " + path, Call: launch.Load, Into: mode, Args: launch.Args{buf.At(statxMode)},
			Why: "for the next step",
		},
		{
			Name: "check that " + path + " is a file", Call: launch.Expect,
			Args: launch.Args{mode, launch.Int(unix.S_IFMT), launch.Int(unix.S_IFREG), launch.Int(unix.EACCES)},
			Why:  "execve would refuse anything else with the same errno",
		},
	}
}
