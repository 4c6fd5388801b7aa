package testkit

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
)

// patience is how long the kernel and ending processes get to clear up: a network
// namespace goes some 50 ms after its last user, a bridge after its owner's
// grace.
const patience = 10 * time.Second

// Leaks checks, when t ends, that nothing is left in the kernel of what was made
// for dirs (data roots, run roots, temporary directories), that nothing of box
// is left without an owner, and that this process has no more open files than now.
// Call it before anything else that registers a cleanup. Tests that use it must not
// run in parallel with others of their process.
func Leaks(t testing.TB, dirs ...string) {
	t.Helper()
	files := openFiles(t)
	t.Cleanup(func() {
		t.Helper()
		look := func() []string { return append(Traces(t, dirs...), newFiles(t, files)...) }
		for _, leak := range settled(look) {
			t.Errorf("left behind: %s", leak)
		}
	})
}

// settled looks until nothing is found or patience ends, and returns what was
// found last.
func settled(look func() []string) []string {
	found := look()
	tick, end := time.NewTicker(20*time.Millisecond), time.After(patience)
	defer tick.Stop()
	for len(found) > 0 {
		select {
		case <-tick.C:
			found = look()
		case <-end:
			return found
		}
	}
	return nil
}

// Traces lists what is there now of dirs, or of box without an owner: mounts,
// processes, bridges, nftables tables, empty cgroups.
func Traces(t testing.TB, dirs ...string) (all []string) {
	t.Helper()
	for i := range dirs {
		if real, err := filepath.EvalSymlinks(dirs[i]); err == nil {
			dirs = append(dirs, real) // mountinfo names the true path
		}
	}
	all = append(all, mounts(t, dirs)...)
	all = append(all, processes(t, dirs)...)
	for name, runroot := range bridges(t) {
		if _, err := os.Lstat(runroot); err != nil || within(runroot, dirs) {
			all = append(all, fmt.Sprintf("bridge %s of %s", name, runroot))
		}
	}
	all = append(all, tables(t)...)
	slices.Sort(all)
	return all
}

// within tells whether path is one of dirs or below.
func within(path string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool {
		return path == d || strings.HasPrefix(path, strings.TrimSuffix(d, "/")+"/")
	})
}

// mounts are those of this mount namespace below dirs.
func mounts(t testing.TB, dirs []string) (out []string) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if fields := strings.Fields(s.Text()); len(fields) > 4 && within(unescape(fields[4]), dirs) {
			out = append(out, "mount "+fields[4])
		}
	}
	return out
}

// unescape undoes mountinfo's octal escapes.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// processes are others than this one and its ancestors that name one of dirs in
// their command line or stand in one.
func processes(t testing.TB, dirs []string) (out []string) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	family := ancestors()
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || family[pid] {
			continue
		}
		cmdline, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil || len(cmdline) == 0 { // gone, a zombie, a kernel thread
			continue
		}
		cwd, _ := os.Readlink(filepath.Join("/proc", e.Name(), "cwd"))
		args := strings.Split(strings.TrimRight(string(cmdline), "\x00"), "\x00")
		if within(cwd, dirs) || slices.ContainsFunc(args, func(a string) bool { return mentions(a, dirs) }) {
			out = append(out, fmt.Sprintf("process %d: %s", pid, strings.Join(args, " ")))
		}
	}
	return out
}

// mentions tells whether an argument is, or ends in "=" and, a path within dirs.
func mentions(arg string, dirs []string) bool {
	_, value, _ := strings.Cut(arg, "=")
	return within(arg, dirs) || value != "" && within(value, dirs)
}

// ancestors are this process and those above it: `go test` names temporary
// directories too.
func ancestors() map[int]bool {
	family := map[int]bool{}
	for pid := os.Getpid(); pid > 0 && !family[pid]; {
		family[pid] = true
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			break
		}
		_, rest, _ := strings.Cut(string(stat), ") ") // the name may hold anything
		fields := strings.Fields(rest)
		if len(fields) < 2 {
			break
		}
		pid, _ = strconv.Atoi(fields[1])
	}
	return family
}

var bridgeName = regexp.MustCompile(`^box[0-9]+$`)

// bridges are box's bridges in this network namespace, with their run roots.
func bridges(t testing.TB) map[string]string {
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, l := range links {
		alias, err := os.ReadFile(filepath.Join("/sys/class/net", l.Name, "ifalias"))
		if runroot, ours := strings.CutPrefix(strings.TrimSpace(string(alias)), "box: "); err == nil && ours {
			out[l.Name] = runroot
		}
	}
	return out
}

// tables are box's nftables tables without their bridge.
func tables(t testing.TB) (out []string) {
	if os.Geteuid() != 0 {
		return nil
	}
	all, err := (&nftables.Conn{}).ListTables()
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range all {
		_, err := net.InterfaceByName(table.Name)
		if err != nil && bridgeName.MatchString(table.Name) {
			out = append(out, "nftables table "+table.Name)
		}
	}
	return out
}

// openFiles counts this process's descriptors by what they are.
func openFiles(t testing.TB) map[string]int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil { // else it was ReadDir's own
			out[kindOf(target)]++
		}
	}
	return out
}

// kindOf is a descriptor's target without the number that is its own: pipe:[123],
// socket:[123], but anon_inode:[eventfd].
func kindOf(target string) string {
	if kind, _, numbered := strings.Cut(target, ":["); numbered && kind != "anon_inode" {
		return kind
	}
	return target
}

// newFiles are the kinds of which there are more than before.
func newFiles(t testing.TB, before map[string]int) (out []string) {
	for kind, n := range openFiles(t) {
		if n > before[kind] && !strings.HasPrefix(kind, "anon_inode:[event") { // the runtime's own poller
			out = append(out, fmt.Sprintf("%d open files %s, %d before", n, kind, before[kind]))
		}
	}
	return out
}
