package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// Sizes of the cases about many containers.
const (
	rowLength   = 200 // containers started one after another
	rowEnd      = 20  // how many of them make up "first" and "last"
	crowdLength = 100 // containers run at the same time
)

// figure is one measured value that is not the time of a turn.
type figure struct{ What, Program, Value string }

// figures measures every runtime alone, in turn.
func (f *field) figures(only string) ([]figure, error) {
	var all []figure
	for _, m := range []struct {
		name    string
		measure func(*field, peer) ([]string, error)
		labels  []string
	}{
		{"many: one after another", (*field).row, []string{
			fmt.Sprintf("median of the first %d of %d, ms", rowEnd, rowLength),
			fmt.Sprintf("median of the last %d, ms", rowEnd),
		}},
		{"many: at once", (*field).crowd, []string{
			fmt.Sprintf("%d at once, failures", crowdLength), "all of them, ms", "peak memory, MiB",
		}},
		{"many: created, not started", (*field).held, []string{"memory of the waiting process, KiB"}},
	} {
		if !strings.Contains(m.name, only) {
			continue
		}
		for _, r := range f.runtimes() {
			values, err := m.measure(f, r)
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", m.name, r.name, err)
			}
			for i, v := range values {
				all = append(all, figure{m.name + ": " + m.labels[i], r.name, v})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b figure) int { return strings.Compare(a.What, b.What) })
	return all, nil
}

func printFigures(out *tabwriter.Writer, all []figure) {
	last := ""
	for _, g := range all {
		what := g.What
		if what == last {
			what = ""
		}
		last = g.What
		fmt.Fprintf(out, "%s\t%s\t%s\t\n", what, g.Program, g.Value)
	}
}

// row starts containers that stay, one after another.
func (f *field) row(r peer) ([]string, error) {
	bundle := f.bundle("row-"+r.base(), "sleep", "3600")
	defer func() {
		for n := range rowLength {
			_ = f.command(r, "delete", "--force", fmt.Sprintf("bench-row-%d", n)).Run() // those that were never made
		}
	}()
	times := make([]time.Duration, rowLength)
	for n := range rowLength {
		cmd := f.command(r, "run", "--detach", "--bundle", bundle, fmt.Sprintf("bench-row-%d", n))
		start := time.Now()
		if err := cmd.Run(); err != nil {
			return nil, fmt.Errorf("container %d: %w", n, err)
		}
		times[n] = time.Since(start)
	}
	return []string{middle(times[:rowEnd]), middle(times[rowLength-rowEnd:])}, nil
}

func middle(times []time.Duration) string {
	slices.Sort(times)
	return fmt.Sprintf("%.1f", ms(times[len(times)/2]))
}

// crowd runs containers at the same time and adds up what they and their
// runtimes hold at the worst moment.
func (f *field) crowd(r peer) ([]string, error) {
	bundle := f.bundle("crowd-"+r.base(), "true")
	group, err := newMemoryGroup()
	if err != nil {
		return nil, err
	}
	var all sync.WaitGroup
	failed := make([]error, crowdLength)
	start := time.Now()
	for n := range crowdLength {
		all.Go(func() {
			failed[n] = group.run(f.command(r, "run", "--bundle", bundle, fmt.Sprintf("bench-crowd-%d", n)))
		})
	}
	all.Wait()
	d := time.Since(start)
	count := 0
	for n, err := range failed {
		if err != nil {
			count++
			_ = f.command(r, "delete", "--force", fmt.Sprintf("bench-crowd-%d", n)).Run()
		}
	}
	return []string{strconv.Itoa(count), fmt.Sprintf("%.0f", ms(d)), group.end()}, nil
}

// held makes a container and looks at the process that waits for its start.
func (f *field) held(r peer) ([]string, error) {
	bundle := f.bundle("held-"+r.base(), "true")
	pidFile := filepath.Join(f.dir, "held.pid")
	if err := f.command(r, "create", "--bundle", bundle, "--pid-file", pidFile, "bench-held").Run(); err != nil {
		return nil, err
	}
	defer func() { _ = f.command(r, "delete", "--force", "bench-held").Run() }()
	pid, err := os.ReadFile(pidFile)
	if err != nil {
		return nil, err
	}
	rollup, err := os.ReadFile("/proc/" + string(bytes.TrimSpace(pid)) + "/smaps_rollup")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(rollup)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "Pss:" {
			return []string{fields[1]}, nil
		}
	}
	return nil, fmt.Errorf("no Pss in smaps_rollup")
}

// command is one call of a runtime, away from our stdio.
func (f *field) command(r peer, args ...string) *exec.Cmd {
	argv := r.command(args...)
	return exec.CommandContext(f.ctx, argv[0], argv[1:]...)
}

// memoryGroup is a cgroup that counts memory. The zero one counts nothing.
type memoryGroup struct{ dir, peak string }

// newMemoryGroup makes a group where the host counts memory: in the v1 hierarchy
// that main has kept open as memoryFile, or in v2.
func newMemoryGroup() (memoryGroup, error) {
	for _, g := range []memoryGroup{
		{fmt.Sprintf("/proc/self/fd/%d", memoryFile), "memory.max_usage_in_bytes"},
		{"/sys/fs/cgroup", "memory.peak"},
	} {
		g.dir = filepath.Join(g.dir, fmt.Sprintf("box-bench-%d", os.Getpid()))
		if os.Mkdir(g.dir, 0o755) != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(g.dir, g.peak)); err == nil {
			return g, nil
		}
		if err := os.Remove(g.dir); err != nil {
			return memoryGroup{}, err
		}
	}
	return memoryGroup{}, nil
}

// run runs cmd in the group. The shell in between joins it and becomes cmd.
func (g memoryGroup) run(cmd *exec.Cmd) error {
	if g.dir != "" {
		group, err := os.Open(g.dir)
		if err != nil {
			return err
		}
		defer group.Close()
		cmd.ExtraFiles = []*os.File{group}
		argv := append([]string{"sh", "-c", `echo 0 > /proc/self/fd/3/cgroup.procs && exec 3<&- && exec "$@"`, "sh", cmd.Path}, cmd.Args[1:]...)
		sh, err := exec.LookPath("sh")
		if err != nil {
			return err
		}
		cmd.Path, cmd.Args = sh, argv
	}
	return cmd.Run()
}

// end reads the peak and removes the group.
func (g memoryGroup) end() string {
	if g.dir == "" {
		return "no memory controller here"
	}
	defer os.Remove(g.dir)
	data, err := os.ReadFile(filepath.Join(g.dir, g.peak))
	if err != nil {
		return err.Error()
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(string(data)), 64)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%.1f", n/(1<<20))
}
