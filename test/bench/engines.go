package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"box/test/baseimage"
)

// engine is one program that runs, builds and pulls images.
type engine struct {
	name string
	base []string // program and its global flags
}

func (e engine) command(args ...string) []string {
	return append(append([]string{}, e.base...), args...)
}

// engines sets up every installed engine with the busybox image, in storage of
// its own where the engine has a flag for that.
func (f *field) engines() []engine {
	rootfs, err := baseimage.Rootfs(f.ctx, "busybox")
	if err != nil {
		panic(err)
	}
	list := []engine{{"box", []string{f.bin + "/box", "--root", f.dir + "/box", "--runroot", f.run + "/box"}}}
	if installed("podman") {
		base := []string{"podman", "--root", f.dir + "/podman", "--runroot", f.run + "/podman", "--cgroup-manager", "cgroupfs"}
		if !slices.ContainsFunc(f.runtimes(), func(r peer) bool { return r.name == "crun" }) {
			base = append(base, "--runtime", "runc")
		}
		list = append(list, engine{"podman", base})
		f.undo = append(f.undo, func() { _ = exec.Command("umount", "-q", f.dir+"/podman/overlay").Run() })
	}
	// dockerd has no such flag; it is measured only where it runs anyhow.
	if exec.Command("docker", "info").Run() == nil {
		list = append(list, engine{"docker", []string{"docker"}})
	}
	var usable []engine
	for _, e := range list {
		f.must(e.command("import", rootfs, benchImage)...)
		f.undo = append(f.undo, func() { _ = exec.Command(e.base[0], e.command("rmi", "-f", benchImage)[1:]...).Run() })
		probe := []string{"run", "--rm", "--network", "none"}
		if e.name == "podman" {
			probe = append(probe, podmanLimits...)
		}
		probe = e.command(append(probe, benchImage, "true")...)
		if out, err := exec.CommandContext(f.ctx, probe[0], probe[1:]...).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%s is left out, it cannot run here: %s\n", e.name, strings.TrimSpace(string(out)))
			continue
		}
		usable = append(usable, e)
	}
	return usable
}

// benchImage is the name of the image that every engine runs.
const benchImage = "localhost/bench-busybox:latest"

// podmanLimits take back limits that podman sets by default: some need a
// capability that not every root has, some a cgroup controller.
var podmanLimits = []string{"--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--pids-limit", "0"}

func (f *field) engineCases() []benchCase {
	engines := f.engines()
	var all []benchCase
	for _, variant := range []struct {
		name  string
		flags []string
	}{
		{"run --rm true, no network", []string{"--network", "none"}},
		{"run --rm true, bridge", nil},
		{"run --rm true, published port", []string{"-p", "18080:80"}},
	} {
		c := benchCase{name: variant.name, turns: f.turns}
		for _, e := range engines {
			args := append([]string{"run", "--rm"}, variant.flags...)
			if e.name == "podman" {
				args = append(args, podmanLimits...)
			}
			args = append(args, benchImage, "true")
			c.contenders = append(c.contenders, contender{name: e.name, steps: once(e.command(args...)...)})
		}
		all = append(all, c)
	}
	return append(all, f.pullCase(engines), f.buildCase(engines))
}

// pullCase fetches the Debian image from a registry on loopback into a store
// that does not have it.
func (f *field) pullCase(engines []engine) benchCase {
	dir := filepath.Join(f.dir, "registry")
	if err := os.Mkdir(dir, 0o700); err != nil {
		panic(err)
	}
	registry, err := baseimage.StartRegistry(f.ctx, dir, "127.0.0.1:0", "")
	if err == nil {
		f.undo = append(f.undo, func() { _ = registry.Stop() })
		err = baseimage.Push(f.ctx, registry.Addr, "debian")
	}
	if err != nil {
		panic(err)
	}
	image := registry.Addr + "/library/debian:12"
	c := benchCase{name: "cold pull of debian (47 MB)", turns: max(f.turns/5, 3)}
	for _, e := range engines {
		args := []string{"pull", "-q", image}
		if e.name == "podman" {
			args = []string{"pull", "-q", "--tls-verify=false", image}
		}
		c.contenders = append(c.contenders, contender{
			name: e.name, steps: once(e.command(args...)...),
			after: once(e.command("rmi", "-f", image)...),
		})
	}
	return c
}

// buildCase builds again what has been built: nothing may run.
func (f *field) buildCase(engines []engine) benchCase {
	dir := filepath.Join(f.dir, "context")
	dockerfile := "FROM localhost/bench-busybox:latest\nWORKDIR /app\nCOPY . .\nRUN echo built > /app/out\nCMD [\"true\"]\n"
	if err := os.Mkdir(dir, 0o700); err != nil {
		panic(err)
	}
	for name, text := range map[string]string{"Dockerfile": dockerfile, "app.js": "// nothing\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			panic(err)
		}
	}
	c := benchCase{name: "cached build", turns: f.turns}
	for _, e := range engines {
		c.contenders = append(c.contenders, contender{name: e.name, steps: once(e.command("build", "-t", "localhost/bench-built", dir)...)})
		f.undo = append(f.undo, func() {
			_ = exec.Command(e.base[0], e.command("rmi", "-f", "localhost/bench-built")[1:]...).Run()
		})
	}
	return c
}
