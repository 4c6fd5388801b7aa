// Command bench times box beside whatever other engines the machine has, and
// prints one table of ratios. It is what `make bench` runs.
//
// Every figure is the wall-clock time of whole processes, as a user would feel
// it. The contenders of a case take turns, so that a busy moment hits all of
// them, in a new order each time: the kernel still tidies up behind one (its
// namespaces, its cgroup) while the next is at work. The minimum is printed
// beside the median because it is the steadier of the two on a shared machine.
//
// It works in a private mount namespace with a plain cgroup2 mount, so that all
// runtimes face the same cgroup version, and in directories of its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// contender is one program in a case.
type contender struct {
	name string
	// steps are the commands whose time counts, made for the n-th turn.
	steps func(n int) [][]string
	// after tidies up behind a turn; its time does not count.
	after func(n int) [][]string
}

// benchCase is one row group of the table. The first contender is box; the
// others are compared with it.
type benchCase struct {
	name       string
	turns      int
	contenders []contender
}

func main() {
	turns := flag.Int("n", 20, "turns per case")
	only := flag.String("run", "", "only cases whose name contains this")
	bin := flag.String("bin", "bin", "directory of box's binaries")
	rootfs := flag.String("smallest", "", "only search for the smallest memory limit, with this root file system (for the test VM)")
	flag.Parse()
	if os.Getenv(insideVar) == "" {
		os.Exit(reexec())
	}
	syscall.CloseOnExec(memoryFile)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	work := func() error { return bench(ctx, *bin, *only, *turns) }
	if *rootfs != "" {
		work = func() error { return smallestOnly(ctx, *bin, *rootfs) }
	}
	if err := work(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// insideVar marks the process that runs in the private mount namespace.
const insideVar = "BOX_BENCH_INSIDE"

// memoryFile is the descriptor of the host's v1 hierarchy with the memory
// controller, if it has one: the private mount hides it.
const memoryFile = 3

// reexec runs this program again in a mount namespace of its own, with a
// cgroup2 mount on /sys/fs/cgroup, if it has none there.
func reexec() int {
	script := `[ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ] || mount -t cgroup2 none /sys/fs/cgroup && exec "$@"`
	args := append([]string{"-c", script, "bench"}, os.Args...)
	cmd := exec.Command("sh", args...)
	cmd.Args[4] = "/proc/self/exe"
	if self, err := os.Executable(); err == nil {
		cmd.Args[4] = self
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	defer null.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = null, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideVar+"=1")
	if memory, err := os.Open("/sys/fs/cgroup/memory"); err == nil {
		defer memory.Close()
		cmd.ExtraFiles = []*os.File{memory}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

func bench(ctx context.Context, bin, only string, turns int) error {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "box-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	f := &field{ctx: ctx, bin: filepath.Join(dir, "bin"), dir: dir, run: filepath.Join(dir, "run"), turns: turns}
	if err := f.mountRun(); err != nil {
		return err
	}
	defer f.tidy()
	// As installed. A file that the linker has just written, piece by piece through a
	// mapping, lies in the page cache in pieces, and each start is a fifth slower.
	f.must("cp", "-r", bin, f.bin)
	out := tabwriter.NewWriter(os.Stdout, 0, 1, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(out, "case\tprogram\tmin ms\tmedian ms\tratio\t")
	for _, c := range f.cases() {
		if !strings.Contains(c.name, only) {
			continue
		}
		got, err := c.measure(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		c.print(out, got)
	}
	if err := out.Flush(); err != nil {
		return err
	}
	all, err := f.figures(only)
	if err != nil {
		return err
	}
	smallest, err := f.smallestFigures(only)
	if err != nil {
		return err
	}
	all = append(all, smallest...)
	fmt.Println()
	printFigures(out, all)
	return out.Flush()
}

// mountRun mounts f.run, in our own mount namespace. What a tester's machine keeps
// its /tmp on is not what is measured.
func (f *field) mountRun() error {
	if err := os.Mkdir(f.run, 0o700); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", f.run, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mount tmpfs on %s: %w", f.run, err)
	}
	f.undo = append(f.undo, func() { _ = syscall.Unmount(f.run, syscall.MNT_DETACH) })
	return nil
}

// measure gives the times of every contender, sorted.
func (c benchCase) measure(ctx context.Context) (map[string][]time.Duration, error) {
	got := map[string][]time.Duration{}
	for n := -1; n < c.turns; n++ { // the first turn warms the caches
		for _, i := range rand.Perm(len(c.contenders)) {
			p := c.contenders[i]
			d, err := p.turn(ctx, n+1)
			if err != nil {
				return nil, err
			}
			if n >= 0 {
				got[p.name] = append(got[p.name], d)
			}
		}
	}
	for _, times := range got {
		slices.Sort(times)
	}
	return got, nil
}

func (p contender) turn(ctx context.Context, n int) (time.Duration, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	steps := p.steps(n)
	paths := make([]string, len(steps))
	for i, argv := range steps {
		var err error
		if paths[i], err = exec.LookPath(argv[0]); err != nil {
			return 0, err
		}
	}
	start := time.Now()
	for i, argv := range steps {
		if err := call(paths[i], argv); err != nil {
			out, _ := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
			return 0, fmt.Errorf("%s: %w; tried again it says: %s", strings.Join(argv, " "), err, out)
		}
	}
	d := time.Since(start)
	if p.after == nil {
		return d, nil
	}
	for _, argv := range p.after(n) {
		if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil {
			return 0, fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
		}
	}
	return d, nil
}

// call runs one command, with our standard input, which is /dev/null. It does as little
// as can be beside, for that would be counted too: package exec opens files and starts
// goroutines.
func call(path string, argv []string) error {
	process, err := os.StartProcess(path, argv, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdin, os.Stdin}})
	if err != nil {
		return err
	}
	state, err := process.Wait()
	if err == nil && !state.Success() {
		err = errors.New(state.String())
	}
	return err
}

// print writes the case's rows; ratios are of medians, to the first contender.
func (c benchCase) print(out *tabwriter.Writer, got map[string][]time.Duration) {
	var first time.Duration
	for i, p := range c.contenders {
		times := got[p.name]
		median := times[len(times)/2]
		if i == 0 {
			first = median
		}
		name := ""
		if i == 0 {
			name = c.name
		}
		fmt.Fprintf(out, "%s\t%s\t%.1f\t%.1f\t%.2f\t\n", name, p.name, ms(times[0]), ms(median), float64(median)/float64(first))
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
