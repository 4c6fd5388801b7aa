// Package resctrl puts containers into groups of the kernel's resctrl file system: Intel's
// Resource Director Technology and its likes on other machines, which divide caches and
// memory bandwidth among processes (Documentation/filesystems/resctrl.rst).
//
// A group is a directory, named by linux.intelRdt.closID or, without that, by the
// container's id. The package makes it where the specification says so, writes its
// schemata, adds processes, reads the kernel's figures, and removes what it has made. It
// never mounts the file system: on a host that has not mounted it, asking for a group is an
// error (config-linux.md, IntelRdt).
//
// All of it is done by the parent, by pid; a container sees nothing of it. Files here are
// the host's own and trusted. The functions take the root of the file system, so that
// tests give them any directory.
package resctrl

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
)

// usualRoot is where the file system is mounted; magic is its type (linux/magic.h).
const (
	usualRoot = "/sys/fs/resctrl"
	magic     = 0x7655821
)

// Root returns where the file system is mounted, or "" if it is not.
func Root() string {
	var st unix.Statfs_t
	if unix.Statfs(usualRoot, &st) == nil && st.Type == magic {
		return usualRoot
	}
	return ""
}

// Group is where a container is. Made and Monitor are what has been made for it and ends
// with it; the zero Group is none.
type Group struct {
	Path    string `json:"path,omitempty"`
	Made    string `json:"made,omitempty"`
	Monitor string `json:"monitor,omitempty"`
}

// Check checks linux.intelRdt by itself; nil is none. root is Root's answer. The words
// are runc's.
func Check(r *specs.LinuxIntelRdt, root string) error {
	if r == nil {
		return nil
	}
	if root == "" {
		return errdefs.New(errdefs.ErrUnsupported, "linux.intelRdt: intelRdt is specified in config, but Intel RDT is not enabled: no resctrl is mounted at %s", usualRoot)
	}
	if id := r.ClosID; id != "/" && (id == "." || id == ".." || len(id) > unix.NAME_MAX || strings.ContainsAny(id, "/\n\x00")) {
		return errdefs.New(errdefs.ErrInvalid, "linux.intelRdt.closID: invalid intelRdt.ClosID %q", id)
	}
	if s := r.MemBwSchema; s != "" && !strings.HasPrefix(s, "MB:") {
		return errdefs.New(errdefs.ErrInvalid, "linux.intelRdt.memBwSchema: %q does not begin with MB:", s)
	}
	for _, line := range schemata(r) {
		if strings.ContainsAny(line, "\n\x00") {
			return errdefs.New(errdefs.ErrInvalid, "linux.intelRdt: schema %q has a line break", line)
		}
	}
	return nil
}

// schemata are the lines to be written, in the order of the specification.
func schemata(r *specs.LinuxIntelRdt) (lines []string) {
	for _, line := range append([]string{r.L3CacheSchema, r.MemBwSchema}, r.Schemata...) {
		if line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// Choose returns the group that a checked configuration asks for; nothing is made yet. In
// Made and Monitor is what Join will make, so that it can be written down before: a group
// outlives its maker, and who is killed in between leaves a note for Remove. What is there
// already belongs to others.
func Choose(root, id string, r *specs.LinuxIntelRdt) Group {
	g := Group{Path: filepath.Join(root, cmp.Or(r.ClosID, id))}
	if r.ClosID == "" && missing(g.Path) {
		g.Made = g.Path
	}
	if monitor := g.monitor(id); r.EnableMonitoring && missing(monitor) {
		g.Monitor = monitor
	}
	return g
}

func missing(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// monitor is the directory in which the container is measured by itself.
func (g *Group) monitor(id string) string { return filepath.Join(g.Path, "mon_groups", id) }

// Join puts a process into the chosen group of the container id. What has been made is in
// Made and Monitor then, also when there is an error: somebody may have been faster.
func (g *Group) Join(id string, r *specs.LinuxIntelRdt, pid int) error {
	g.Made, g.Monitor = "", ""
	made, err := g.open(r)
	if made && r.ClosID == "" {
		g.Made = g.Path
	}
	if err != nil {
		return err
	}
	if lines := schemata(r); made || r.ClosID == "" {
		err = g.write(lines)
	} else {
		err = g.compare(lines)
	}
	if err != nil {
		return err
	}
	if r.EnableMonitoring {
		monitor := g.monitor(id)
		if err := os.Mkdir(monitor, 0o755); err != nil {
			return fmt.Errorf("make resctrl monitoring group: %w", err)
		}
		g.Monitor = monitor
	}
	return g.Add(pid)
}

// open makes the group's directory, unless it is there. One that is named, and for which
// nothing is to be written, has to be there.
func (g *Group) open(r *specs.LinuxIntelRdt) (made bool, err error) {
	if r.ClosID != "" && len(schemata(r)) == 0 {
		if _, err := os.Stat(g.Path); err != nil {
			return false, errdefs.New(errdefs.ErrNotFound, "linux.intelRdt.closID: clos dir %q not accessible (must be pre-created when l3CacheSchema, schemata and memBwSchema are empty): %w", g.Path, err)
		}
		return false, nil
	}
	err = os.Mkdir(g.Path, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("make resctrl group: %w", explain(g.Path, err))
	}
	return true, nil
}

// write writes lines to the group's schemata, all in one: the kernel takes them one by
// one, and later ones win.
func (g *Group) write(lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	text := strings.Join(lines, "\n") + "\n"
	if err := writeFile(filepath.Join(g.Path, "schemata"), text); err != nil {
		return fmt.Errorf("set resctrl schemata %q: %w", text, explain(g.Path, err))
	}
	return nil
}

// compare checks that a group that others have made is what is asked for.
func (g *Group) compare(lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	text, err := os.ReadFile(filepath.Join(g.Path, "schemata"))
	if err != nil {
		return err
	}
	have := parse(strings.Split(string(text), "\n"))
	for key, want := range parse(lines) {
		if value, ok := have[key]; !ok || value != want {
			return errdefs.New(errdefs.ErrConflict, "linux.intelRdt: group %s has schema %s=%s, not %s", g.Path, key, have[key], want)
		}
	}
	return nil
}

// parse takes lines such as "L3:0=7f0;1=1f" apart: "L3:0" is 7f0. Leading zeros and
// spaces, with which the kernel pads, count for nothing.
func parse(lines []string) map[string]string {
	values := map[string]string{}
	for _, line := range lines {
		resource, domains, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}
		for domain := range strings.SplitSeq(domains, ";") {
			number, value, _ := strings.Cut(domain, "=")
			value = strings.TrimLeft(strings.ToLower(strings.TrimSpace(value)), "0")
			values[resource+":"+strings.TrimSpace(number)] = value
		}
	}
	return values
}

// Add adds a process to the group; what it forks follows.
func (g *Group) Add(pid int) error {
	for _, dir := range []string{g.Path, g.Monitor} {
		if dir == "" {
			continue
		}
		if err := writeFile(filepath.Join(dir, "tasks"), strconv.Itoa(pid)+"\n"); err != nil {
			return fmt.Errorf("add process %d to resctrl group %s: %w", pid, dir, err)
		}
	}
	return nil
}

// Remove removes what was made for the container. The kernel gives processes that are
// left back to the root group.
func (g *Group) Remove() error {
	var all error
	for _, dir := range []string{g.Monitor, g.Made} {
		if dir == "" {
			continue
		}
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			all = errors.Join(all, fmt.Errorf("remove resctrl group: %w", err))
		}
	}
	return all
}

// writeFile writes to a file that is there; one write is one command.
func writeFile(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// explain adds what the kernel has to say about its last refusal.
func explain(group string, err error) error {
	status, errRead := os.ReadFile(filepath.Join(filepath.Dir(group), "info", "last_cmd_status"))
	if errRead != nil || len(status) == 0 {
		return err
	}
	return fmt.Errorf("%w (%s)", err, strings.TrimSpace(string(status)))
}
