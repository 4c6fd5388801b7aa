package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"box/test/baseimage"
)

// field is what the cases run in.
type field struct {
	ctx   context.Context //nolint:containedctx // one invocation
	bin   string
	dir   string // on disk
	run   string // in memory, as /run is: the state of runtimes and engines
	turns int
	undo  []func()

	rootfs string // tar of busybox; found when needed
	usable []peer // runtimes
}

func (f *field) tidy() {
	for i := len(f.undo) - 1; i >= 0; i-- {
		f.undo[i]()
	}
}

// must runs a command that sets something up.
func (f *field) must(argv ...string) string {
	cmd := exec.CommandContext(f.ctx, argv[0], argv[1:]...)
	var messages strings.Builder
	cmd.Stderr = &messages
	out, err := cmd.Output()
	if err != nil {
		f.tidy()
		fmt.Fprintf(os.Stderr, "bench: set up: %s: %v: %s\n", strings.Join(argv, " "), err, messages.String())
		os.Exit(1)
	}
	return strings.TrimSpace(string(out))
}

func installed(name string) bool {
	_, err := exec.LookPath(name)
	return err == nil
}

// once makes steps that are the same in every turn.
func once(argv ...string) func(int) [][]string {
	return func(int) [][]string { return [][]string{argv} }
}

func (f *field) cases() []benchCase {
	all := []benchCase{f.startCase(), f.runtimeRun(), f.runtimeLifecycle(), f.runtimeExec()}
	return append(all, f.engineCases()...)
}

// startCase compares what a program costs before it does anything.
func (f *field) startCase() benchCase {
	empty := filepath.Join(f.dir, "empty")
	src := filepath.Join(f.dir, "empty.go")
	if err := os.WriteFile(src, []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		return benchCase{}
	}
	f.must("env", "CGO_ENABLED=0", "go", "build", "-o", empty, src)
	c := benchCase{name: "start", turns: f.turns * 5}
	c.contenders = []contender{
		{name: "empty static Go program", steps: once(empty)},
		{name: "box-runtime --version", steps: once(f.bin+"/box-runtime", "--version")},
		{name: "box --version", steps: once(f.bin+"/box", "--version")},
	}
	for _, other := range []string{"crun", "runc", "podman"} {
		if installed(other) {
			c.contenders = append(c.contenders, contender{name: other + " --version", steps: once(other, "--version")})
		}
	}
	return c
}

// peer is one OCI runtime with the global flags it needs here.
type peer struct {
	name  string
	state string // its state directory
	argv  []string
}

func (r peer) command(args ...string) []string {
	return slices.Concat(r.argv, []string{"--root", r.state}, args)
}

// base names the runtime in paths.
func (r peer) base() string { return filepath.Base(r.argv[0]) }

// runtimes are box-runtime and the others that are installed and can run the
// bundle on this machine.
func (f *field) runtimes() []peer {
	if f.usable != nil {
		return f.usable
	}
	f.usable = []peer{f.peer(f.bin + "/box-runtime")}
	bundle := f.bundle("probe", "true")
	for _, other := range []string{"crun", "runc"} {
		if !installed(other) {
			continue
		}
		err := f.probe(bundle, f.peer(other))
		if err != nil && strings.Contains(err.Error(), "RLIM") {
			fmt.Fprintf(os.Stderr, "%s may not raise RLIMIT_MEMLOCK here; it is told that it has, which a seccomp filter does, for all\n", other)
			if err = pretendMemlock(); err == nil {
				err = f.probe(bundle, f.peer(other))
			}
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s is left out, it cannot run here: %v\n", other, err)
			continue
		}
		f.usable = append(f.usable, f.peer(other))
	}
	return f.usable
}

func (f *field) peer(argv ...string) peer {
	base := filepath.Base(argv[0])
	return peer{name: base, state: filepath.Join(f.run, base), argv: argv}
}

// probe tries a runtime. The error is what it says.
func (f *field) probe(bundle string, r peer) error {
	out, err := f.command(r, "run", "--bundle", bundle, "bench-probe").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// bundle makes a bundle whose command is argv, once per name.
func (f *field) bundle(name string, argv ...string) string {
	dir := filepath.Join(f.dir, "bundle-"+name)
	root := filepath.Join(dir, "rootfs")
	if err := os.MkdirAll(root, 0o755); err != nil {
		panic(err)
	}
	if f.rootfs == "" {
		var err error
		if f.rootfs, err = baseimage.Rootfs(f.ctx, "busybox"); err != nil {
			panic(err)
		}
	}
	f.must("tar", "-xzf", f.rootfs, "-C", root)
	f.must("sh", "-c", fmt.Sprintf("cd %q && rm -f config.json && %q spec", dir, f.bin+"/box-runtime"))
	err := editSpec(dir, func(spec map[string]any) {
		process := spec["process"].(map[string]any)
		process["terminal"], process["args"] = false, argv
		spec["ociVersion"] = "1.0.2" // the newest that Debian 12's crun takes
	})
	if err != nil {
		panic(err)
	}
	return dir
}

// editSpec changes the config of a bundle.
func editSpec(bundle string, edit func(spec map[string]any)) error {
	file := filepath.Join(bundle, "config.json")
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var spec map[string]any
	if err := json.Unmarshal(data, &spec); err != nil {
		return err
	}
	edit(spec)
	if data, err = json.Marshal(spec); err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o600)
}

func (f *field) runtimeRun() benchCase {
	bundle := f.bundle("true", "true")
	c := benchCase{name: "runtime: run true", turns: f.turns}
	for _, r := range f.runtimes() {
		c.contenders = append(c.contenders, contender{name: r.name, steps: func(n int) [][]string {
			return [][]string{r.command("run", "--bundle", bundle, fmt.Sprintf("bench-run-%d", n))}
		}})
	}
	return c
}

func (f *field) runtimeLifecycle() benchCase {
	bundle := f.bundle("life", "true")
	c := benchCase{name: "runtime: create, start, delete", turns: f.turns}
	for _, r := range f.runtimes() {
		c.contenders = append(c.contenders, contender{name: r.name, steps: func(n int) [][]string {
			id := fmt.Sprintf("bench-life-%d", n)
			return [][]string{
				r.command("create", "--bundle", bundle, id),
				r.command("start", id),
				r.command("delete", "--force", id),
			}
		}})
	}
	return c
}

func (f *field) runtimeExec() benchCase {
	bundle := f.bundle("exec", "sleep", "3600")
	c := benchCase{name: "runtime: exec true", turns: f.turns}
	for _, r := range f.runtimes() {
		id := "bench-exec-" + r.base()
		f.must(slices.Concat([]string{"sh", "-c", `exec "$@" </dev/null >/dev/null 2>&1`, "sh"}, r.command("run", "-d", "--bundle", bundle, id))...)
		f.undo = append(f.undo, func() {
			argv := r.command("delete", "--force", id)
			_ = exec.Command(argv[0], argv[1:]...).Run() // after an interrupt, too
		})
		c.contenders = append(c.contenders, contender{name: r.name, steps: once(r.command("exec", id, "true")...)})
	}
	return c
}
