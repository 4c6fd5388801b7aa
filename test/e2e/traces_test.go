package e2e

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// traces lists what a container can leave behind on the host, one line each:
// mounts, network devices, nftables rules, cgroups, processes, temporary files.
func traces(t *testing.T) []string {
	t.Helper()
	var all []string
	all = append(all, mounts(t)...)
	all = append(all, links(t)...)
	all = append(all, rules()...)
	all = append(all, cgroupDirs()...)
	return append(all, processes(t)...)
}

func mounts(t *testing.T) []string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		all = append(all, "mount "+fields[4])
	}
	return all
}

func links(t *testing.T) []string {
	t.Helper()
	list, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, l := range list {
		all = append(all, "network device "+l.Name)
	}
	return all
}

// rules are lines of the ruleset without their counters; without nft there is
// nothing to compare.
func rules() []string {
	out, err := exec.Command("nft", "list", "ruleset").Output()
	if err != nil {
		return nil
	}
	var all []string
	for line := range strings.Lines(string(out)) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), " counter packets")
		if strings.Contains(line, "box") {
			all = append(all, "nftables "+line)
		}
	}
	return all
}

// cgroupDirs are the groups of box, in whichever place cgroup2 is mounted.
func cgroupDirs() []string {
	var all []string
	for _, base := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var st unix.Statfs_t
		if unix.Statfs(base, &st) != nil || st.Type != unix.CGROUP2_SUPER_MAGIC {
			continue
		}
		_ = filepath.WalkDir(filepath.Join(base, "box"), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() && filepath.Dir(path) != base {
				all = append(all, "cgroup "+path)
			}
			return nil // a group that goes away meanwhile is no finding
		})
	}
	return all
}

// processes are those that run one of our programs.
func processes(t *testing.T) []string {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, dir := range dirs {
		exe, err := os.Readlink(filepath.Join(dir, "exe"))
		if err != nil || !strings.HasPrefix(exe, programs+"/") {
			continue
		}
		cmdline, _ := os.ReadFile(filepath.Join(dir, "cmdline")) // it may be gone
		all = append(all, fmt.Sprintf("process %s: %s", filepath.Base(dir), strings.ReplaceAll(string(cmdline), "\x00", " ")))
	}
	return all
}
