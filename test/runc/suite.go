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

// commands are what the tests call beside them.
var commands = []string{"bats", "jq", "gawk", "gcc", "ip", "unshare", "nsenter", "taskset", "newuidmap"}

// suite is runc's source tree, built and with images, in the cache.
type suite struct{ dir string }

func (s suite) runc() string     { return filepath.Join(s.dir, "runc") }
func (s suite) batsDir() string  { return filepath.Join(s.dir, "tests", "integration") }
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
	s := suite{dir: filepath.Join(cacheDir(), runcVersion)}
	if _, err := os.Stat(filepath.Join(s.dir, "complete")); err == nil {
		return s, nil
	}
	for _, c := range commands {
		if _, err := exec.LookPath(c); err != nil {
			return s, fmt.Errorf("%s: not installed; try: sh scripts/test-deps.sh runc-suite", c)
		}
	}
	fmt.Fprintf(os.Stderr, "making runc %s and its tests ready in %s ...\n", runcVersion, s.dir)
	for _, step := range []func(context.Context) error{s.fetch, s.build, s.images} {
		if err := step(ctx); err != nil {
			return s, err
		}
	}
	return s, os.WriteFile(filepath.Join(s.dir, "complete"), nil, 0o644)
}

// fetch copies the sources out of the module cache, which is read-only.
func (s suite) fetch(ctx context.Context) error {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", "github.com/opencontainers/runc@"+runcVersion)
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("download runc's sources: %w: %s", err, out.String())
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out.Bytes(), &module); err != nil {
		return fmt.Errorf("download runc's sources: %w", err)
	}
	if err := os.RemoveAll(s.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(s.dir), 0o755); err != nil {
		return err
	}
	if err := os.CopyFS(s.dir, os.DirFS(module.Dir)); err != nil {
		return fmt.Errorf("copy runc's sources: %w", err)
	}
	// The zip format of modules knows no execute bits.
	return command(ctx, s.dir, "sh", "-c", "chmod -R u+w . && find . -name '*.sh' -exec chmod +x {} +")
}

// build compiles runc and the helpers. libpathrs is a Rust library that runc can
// do without.
func (s suite) build(ctx context.Context) error {
	goBuild := func(out, pkg string) error {
		return command(ctx, s.dir, "env", "CGO_ENABLED=1", "go", "build", "-trimpath", "-buildvcs=false", "-buildmode=pie",
			"-tags", "seccomp urfave_cli_no_docs", "-ldflags", "-X main.gitCommit="+runcVersion, "-o", out, pkg)
	}
	if err := goBuild("runc", "."); err != nil {
		return err
	}
	for _, h := range helpers {
		if err := goBuild("tests/cmd/_bin/"+h, "./tests/cmd/"+h); err != nil {
			return err
		}
	}
	return nil
}

// images puts the archives where the suite's get-images.sh keeps its downloads,
// under the names it gives them; tar tells the compression by content. The
// script asks the go command for the architecture: it gets a small stand-in,
// so that the tests run where Go is not installed.
func (s suite) images(ctx context.Context) error {
	for _, name := range []string{"busybox", "debian"} {
		archive, err := baseimage.Rootfs(ctx, name)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(archive)
		if err != nil {
			return err
		}
		target := filepath.Join(s.testdata(), fmt.Sprintf("%s-%s.tar.xz", name, runtime.GOARCH))
		if err := os.WriteFile(target, data, 0o644); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(s.dir, "shims"), 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.dir, "shims", "go"), []byte("#!/bin/sh\necho "+runtime.GOARCH+"\n"), 0o755)
}

// files are the names of the wanted bats files, without the ending.
func (s suite) files(wanted []string) ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(s.batsDir(), "*.bats"))
	if err != nil {
		return nil, err
	}
	var all []string
	for _, p := range paths {
		all = append(all, strings.TrimSuffix(filepath.Base(p), ".bats"))
	}
	if len(wanted) == 0 {
		return all, nil
	}
	var files []string
	for _, w := range wanted {
		w = strings.TrimSuffix(filepath.Base(w), ".bats")
		if !slices.Contains(all, w) {
			return nil, fmt.Errorf("%s: no such bats file; there are: %s", w, strings.Join(all, " "))
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
