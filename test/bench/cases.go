package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"box/test/baseimage"
)

// field is what the cases run in.
type field struct {
	ctx   context.Context //nolint:containedctx // one invocation
	bin   string
	dir   string
	turns int
	undo  []func()

	usable []string // runtimes
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

// runtimes are box-runtime and the others that are installed and can run the
// bundle on this machine.
func (f *field) runtimes() []string {
	if f.usable != nil {
		return f.usable
	}
	f.usable = []string{filepath.Join(f.bin, "box-runtime")}
	bundle := f.bundle("probe", "true")
	for _, other := range []string{"crun", "runc"} {
		if !installed(other) {
			continue
		}
		if out, err := exec.CommandContext(f.ctx, other, "--root", f.rootOf(other), "run", "--bundle", bundle, "bench-probe").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%s is left out, it cannot run here: %s\n", other, strings.TrimSpace(string(out)))
			continue
		}
		f.usable = append(f.usable, other)
	}
	return f.usable
}

// bundle makes a bundle whose command is argv, once per name.
func (f *field) bundle(name string, argv ...string) string {
	dir := filepath.Join(f.dir, "bundle-"+name)
	root := filepath.Join(dir, "rootfs")
	if err := os.MkdirAll(root, 0o755); err != nil {
		panic(err)
	}
	rootfs, err := baseimage.Rootfs(f.ctx, "busybox")
	if err != nil {
		panic(err)
	}
	f.must("tar", "-xzf", rootfs, "-C", root)
	var spec map[string]any
	if err := json.Unmarshal([]byte(runcSpec(f, dir)), &spec); err != nil {
		panic(err)
	}
	process := spec["process"].(map[string]any)
	process["terminal"], process["args"] = false, argv
	spec["ociVersion"] = "1.0.2" // the newest that Debian 12's crun takes
	data, err := json.Marshal(spec)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.json"), data, 0o600)
	}
	if err != nil {
		panic(err)
	}
	return dir
}

// runcSpec is the example config that every runtime can print.
func runcSpec(f *field, dir string) string {
	f.must("sh", "-c", fmt.Sprintf("cd %q && rm -f config.json && %q spec", dir, f.bin+"/box-runtime"))
	data, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		panic(err)
	}
	return string(data)
}

// rootOf keeps the state of each runtime apart.
func (f *field) rootOf(runtime string) string {
	return filepath.Join(f.dir, "state-"+filepath.Base(runtime))
}

func (f *field) runtimeRun() benchCase {
	bundle := f.bundle("true", "true")
	c := benchCase{name: "runtime: run true", turns: f.turns}
	for _, r := range f.runtimes() {
		c.contenders = append(c.contenders, contender{name: filepath.Base(r), steps: func(n int) [][]string {
			return [][]string{{r, "--root", f.rootOf(r), "run", "--bundle", bundle, fmt.Sprintf("bench-run-%d", n)}}
		}})
	}
	return c
}

func (f *field) runtimeLifecycle() benchCase {
	bundle := f.bundle("life", "true")
	c := benchCase{name: "runtime: create, start, delete", turns: f.turns}
	for _, r := range f.runtimes() {
		c.contenders = append(c.contenders, contender{name: filepath.Base(r), steps: func(n int) [][]string {
			id := fmt.Sprintf("bench-life-%d", n)
			return [][]string{
				{r, "--root", f.rootOf(r), "create", "--bundle", bundle, id},
				{r, "--root", f.rootOf(r), "start", id},
				{r, "--root", f.rootOf(r), "delete", "--force", id},
			}
		}})
	}
	return c
}

func (f *field) runtimeExec() benchCase {
	bundle := f.bundle("exec", "sleep", "3600")
	c := benchCase{name: "runtime: exec true", turns: f.turns}
	for _, r := range f.runtimes() {
		f.must("sh", "-c", fmt.Sprintf("%q --root %q run -d --bundle %q bench-exec </dev/null >/dev/null 2>&1", r, f.rootOf(r), bundle))
		f.undo = append(f.undo, func() { _ = exec.Command(r, "--root", f.rootOf(r), "delete", "--force", "bench-exec").Run() })
		c.contenders = append(c.contenders, contender{name: filepath.Base(r), steps: once(r, "--root", f.rootOf(r), "exec", "bench-exec", "true")})
	}
	return c
}
