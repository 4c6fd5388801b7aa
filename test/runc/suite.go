package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"box/test/baseimage"
)

// runcVersion is what the runtime is measured against.
const runcVersion = "v1.5.2"

// helpers are the programs of runc's tests/cmd; the tests look for them in
// tests/cmd/_bin.
var helpers = []string{"recvtty", "sd-helper", "seccompagent", "fs-idmap", "pidfd-kill", "remap-rootfs", "key_label"}

// staticHelpers run in containers, where no dynamic linker is.
var staticHelpers = []string{"key_label"}

// commands are what the tests call beside them.
var commands = []string{"bats", "jq", "gawk", "gcc", "ip", "unshare", "nsenter", "taskset", "newuidmap"}

// suite is a directory of the cache with runc's source tree, built and with
// images, and that of the runtime-tools beside it.
type suite struct{ dir string }

func (s suite) source() string   { return filepath.Join(s.dir, "runc-"+runcVersion) }
func (s suite) runc() string     { return filepath.Join(s.source(), "runc") }
func (s suite) batsDir() string  { return filepath.Join(s.source(), "tests", "integration") }
func (s suite) testdata() string { return filepath.Join(s.batsDir(), "testdata") }

func cacheDir() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = "/root/.cache"
	}
	return filepath.Join(dir, "box-test", "runc-suite")
}

// prepareSuite makes the suite if it is not there: a minute, and half a minute
// for each image.
func prepareSuite(ctx context.Context) (suite, error) {
	s := suite{dir: cacheDir()}
	parts := []struct {
		mark  string // a file that is there when the part is made
		steps []func(context.Context) error
	}{
		{filepath.Join(s.source(), "complete"), []func(context.Context) error{s.fetchRunc, s.build}},
		{filepath.Join(s.testdata(), "complete"), []func(context.Context) error{s.images}},
		{filepath.Join(s.tools(), "complete"), []func(context.Context) error{s.fetchTools, s.buildTools}},
	}
	for _, p := range parts {
		if _, err := os.Stat(p.mark); err == nil {
			continue
		}
		if err := makeReady(ctx, filepath.Dir(p.mark), p.steps); err != nil {
			return s, err
		}
		if err := os.WriteFile(p.mark, nil, 0o644); err != nil {
			return s, err
		}
	}
	return s, nil
}

func makeReady(ctx context.Context, dir string, steps []func(context.Context) error) error {
	for _, c := range commands {
		if _, err := exec.LookPath(c); err != nil {
			return fmt.Errorf("%s: not installed; try: sh scripts/test-deps.sh runc-suite", c)
		}
	}
	fmt.Fprintf(os.Stderr, "making %s ready ...\n", dir)
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s suite) fetchRunc(ctx context.Context) error {
	return fetch(ctx, "github.com/opencontainers/runc@"+runcVersion, s.source())
}

// fetch copies a module's sources out of the module cache, which is read-only.
func fetch(ctx context.Context, module, dir string) error {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", module)
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("download %s: %w: %s", module, err, out.String())
	}
	var place struct{ Dir string }
	if err := json.Unmarshal(out.Bytes(), &place); err != nil {
		return fmt.Errorf("download %s: %w", module, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := os.CopyFS(dir, os.DirFS(place.Dir)); err != nil {
		return fmt.Errorf("copy %s: %w", module, err)
	}
	// The zip format of modules knows no execute bits.
	return command(ctx, dir, "sh", "-c", "chmod -R u+w . && find . -name '*.sh' -exec chmod +x {} +")
}

// build compiles runc and the helpers. libpathrs is a Rust library that runc can
// do without.
func (s suite) build(ctx context.Context) error {
	goBuild := func(cgo, mode, out, pkg string) error {
		return command(ctx, s.source(), "env", "CGO_ENABLED="+cgo, "go", "build", "-trimpath", "-buildvcs=false", "-buildmode="+mode,
			"-tags", "seccomp urfave_cli_no_docs", "-ldflags", "-X main.gitCommit="+runcVersion, "-o", out, pkg)
	}
	if err := goBuild("1", "pie", "runc", "."); err != nil {
		return err
	}
	for _, h := range helpers {
		cgo, mode := "1", "pie"
		if slices.Contains(staticHelpers, h) {
			cgo, mode = "0", "exe"
		}
		if err := goBuild(cgo, mode, "tests/cmd/_bin/"+h, "./tests/cmd/"+h); err != nil {
			return err
		}
	}
	return nil
}

// images puts the archives where the suite's get-images.sh keeps its downloads,
// under the names it gives them; tar tells the compression by content.
func (s suite) images(ctx context.Context) error {
	for _, name := range []string{"busybox", "debian"} {
		archive, err := baseimage.Rootfs(ctx, name)
		if err != nil {
			return err
		}
		target := filepath.Join(s.testdata(), fmt.Sprintf("%s-%s.tar.xz", name, runtime.GOARCH))
		without := ""
		if name == "busybox" {
			without = "./proc ./sys"
		}
		if err := repack(ctx, archive, target, without); err != nil {
			return err
		}
	}
	return nil
}

// repack makes a root file system look as the usual images do, on which tests rely: the
// directories in without (of busybox) are not there, since tests make links in their
// places, and an empty /dev is, which runtimes cannot make where root is mapped.
func repack(ctx context.Context, archive, target, without string) error {
	const script = `aside=$(mktemp -d)
		trap 'rm -rf "$aside"' EXIT
		mkdir "$aside/dev"
		gzip -dc "$1" >"$aside/tar"
		[ -z "$3" ] || tar --delete -f "$aside/tar" $3
		tar -tf "$aside/tar" ./dev/ >"$aside/found" 2>&1 || tar --owner=0 --group=0 -C "$aside" -rf "$aside/tar" ./dev
		gzip -1 <"$aside/tar" >"$2"`
	return command(ctx, filepath.Dir(target), "sh", "-ec", script, "repack", archive, target, without)
}

// standard is the runtime whose outcome is asked of others. The validation
// programs need one of their time, with what they put into a configuration
// runc's newer releases cannot start a container: the distribution's runc.
func (s suite) standard(file string) string {
	if strings.HasPrefix(file, toolPrefix) {
		if path, err := exec.LookPath("runc"); err == nil {
			return path
		}
	}
	return s.runc()
}

// files are the names of the wanted bats files, without the ending, and of the
// validation programs.
func (s suite) files(wanted []string) ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(s.batsDir(), "*.bats"))
	if err != nil {
		return nil, err
	}
	var all []string
	for _, p := range paths {
		all = append(all, strings.TrimSuffix(filepath.Base(p), ".bats"))
	}
	programs, err := filepath.Glob(filepath.Join(s.tools(), "bin", "*"))
	if err != nil {
		return nil, err
	}
	for _, p := range programs {
		all = append(all, toolPrefix+filepath.Base(p))
	}
	if len(wanted) == 0 {
		return all, nil
	}
	var files []string
	for _, w := range wanted {
		w = strings.TrimSuffix(filepath.Base(w), ".bats")
		if !slices.Contains(all, w) {
			return nil, fmt.Errorf("%s: no such file of tests; there are: %s", w, strings.Join(all, " "))
		}
		files = append(files, w)
	}
	return files, nil
}

// command runs a program and shows what it said if it fails.
func command(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
