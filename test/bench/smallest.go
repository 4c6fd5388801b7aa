package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"box/internal/testkit/vm"
	"box/test/baseimage"
)

// Memory limits that the search stays between, and how exact it is, in KiB.
const (
	smallestAtMost  = 16 << 10
	smallestExactly = 16
)

// smallestName is the figure's name.
const smallestName = "limit: smallest that runs true, KiB"

// smallestFigures finds the smallest memory limit of each runtime, in the test VM
// where the host has no memory controller in cgroup v2.
func (f *field) smallestFigures(only string) ([]figure, error) {
	if !strings.Contains(smallestName, only) {
		return nil, nil
	}
	if hasMemory() {
		return f.smallest()
	}
	if why := vm.Missing(); why != "" {
		fmt.Fprintf(os.Stderr, "the smallest memory limit is left out: %s\n", why)
		return nil, nil
	}
	rootfs, err := baseimage.Rootfs(f.ctx, "busybox")
	if err != nil {
		return nil, err
	}
	guest := filepath.Join(f.dir, "vm")
	f.must("env", "CGO_ENABLED=0", "go", "build", "-o", guest, "./test/vm")
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	status, err := vm.Run(f.ctx, vm.Config{Program: guest, Stdout: &out, Stderr: os.Stderr, Timeout: 4 * time.Minute},
		[]string{self, "-bin", f.bin, "-smallest", rootfs})
	if err == nil && status != 0 {
		err = fmt.Errorf("exit status %d", status)
	}
	if err != nil {
		return nil, fmt.Errorf("search in the test VM: %w", err)
	}
	return readFigures(&out)
}

// hasMemory tells whether limits of memory work in the view that we have.
func hasMemory() bool {
	data, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
	return err == nil && strings.Contains(string(data), "memory")
}

// smallestOnly is what runs in the VM: it prints the figures for readFigures.
func smallestOnly(ctx context.Context, bin, rootfs string) error {
	dir, err := os.MkdirTemp("", "box-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	f := &field{ctx: ctx, bin: bin, dir: dir, run: filepath.Join(dir, "run"), rootfs: rootfs}
	if err := f.mountRun(); err != nil {
		return err
	}
	defer f.tidy()
	all, err := f.smallest()
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(all)
}

func readFigures(r io.Reader) ([]figure, error) {
	var all []figure
	err := json.NewDecoder(r).Decode(&all)
	return all, err
}

func (f *field) smallest() ([]figure, error) {
	var all []figure
	for _, r := range f.runtimes() {
		kib, err := f.smallestOf(r)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.name, err)
		}
		all = append(all, figure{smallestName, r.name, kib})
	}
	return all, nil
}

// smallestOf searches by halves. It expects that more memory never hurts.
func (f *field) smallestOf(r peer) (string, error) {
	bundle := f.bundle("small-"+r.base(), "true")
	low, high := 0, smallestAtMost
	for high-low > smallestExactly {
		middle := (low + high) / 2
		ok, err := f.runsWithin(r, bundle, int64(middle)<<10)
		if err != nil {
			return "", err
		}
		if ok {
			high = middle
		} else {
			low = middle
		}
	}
	if high == smallestAtMost {
		return fmt.Sprintf("more than %d", high), nil
	}
	return fmt.Sprint(high), nil
}

// runsWithin runs the bundle with a limit of memory and no swap.
func (f *field) runsWithin(r peer, bundle string, limit int64) (bool, error) {
	err := editSpec(bundle, func(spec map[string]any) {
		linux := spec["linux"].(map[string]any)
		linux["resources"].(map[string]any)["memory"] = map[string]any{"limit": limit, "swap": limit}
	})
	if err != nil {
		return false, err
	}
	err = f.command(r, "run", "--bundle", bundle, "bench-small").Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return false, err
	}
	_ = f.command(r, "delete", "--force", "bench-small").Run() // what a killed one has left
	return err == nil, nil
}
