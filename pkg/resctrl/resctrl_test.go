package resctrl

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"box/internal/errdefs"
)

// fakeRoot is a directory that looks like a resctrl file system with one group: the
// kernel would make the files of new ones itself, so they are made ahead.
func fakeRoot(t *testing.T, groups ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, g := range append(groups, "") {
		for _, dir := range []string{"mon_groups", "info"} {
			if err := os.MkdirAll(filepath.Join(root, g, dir), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for file, text := range map[string]string{"schemata": "    L3:0=07f0;1=1f\n    MB:0=100;1=100\n", "tasks": ""} {
			if err := os.WriteFile(filepath.Join(root, g, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return root
}

// join is what a runtime does that is not killed in between.
func join(root, id string, r *specs.LinuxIntelRdt, pid int) (Group, error) {
	g := Choose(root, id, r)
	err := g.Join(id, r, pid)
	return g, err
}

func read(t *testing.T, elem ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestCheck(t *testing.T) {
	if err := Check(nil, ""); err != nil {
		t.Error(err)
	}
	err := Check(&specs.LinuxIntelRdt{}, "")
	if !errors.Is(err, errdefs.ErrUnsupported) || !strings.Contains(err.Error(), "intelRdt is specified in config, but Intel RDT is not enabled") {
		t.Errorf("without resctrl: %v", err)
	}
	for text, r := range map[string]specs.LinuxIntelRdt{
		"":                              {ClosID: "/", Schemata: []string{"L3:0=f"}},
		`invalid intelRdt.ClosID "a/b"`: {ClosID: "a/b"},
		`invalid intelRdt.ClosID ".."`:  {ClosID: ".."},
		"does not begin with MB:":       {MemBwSchema: "L3:0=f"},
		"line break":                    {Schemata: []string{"L3:0=f\nMB:0=10"}},
	} {
		err := Check(&r, "/sys/fs/resctrl")
		if text == "" && err != nil || text != "" && (!errors.Is(err, errdefs.ErrInvalid) || !strings.Contains(err.Error(), text)) {
			t.Errorf("%+v: %v, want %q", r, err, text)
		}
	}
}

// A group that somebody has made and configured is joined, if it is as it should be.
func TestJoinNamedGroup(t *testing.T) {
	root := fakeRoot(t, "gold")
	for _, r := range []specs.LinuxIntelRdt{
		{ClosID: "gold"},
		{ClosID: "gold", L3CacheSchema: "L3:0=7f0;1=01f"},
		{ClosID: "gold", Schemata: []string{"MB:1=100", "L3:0=7F0"}},
	} {
		g, err := join(root, "c1", &r, 42)
		if err != nil || g != (Group{Path: root + "/gold"}) {
			t.Errorf("%+v: %+v, %v", r, g, err)
		}
	}
	if got := read(t, root, "gold/tasks"); got != "42\n" {
		t.Errorf("tasks = %q", got)
	}
	_, err := join(root, "c1", &specs.LinuxIntelRdt{ClosID: "gold", MemBwSchema: "MB:0=20"}, 42)
	if !errors.Is(err, errdefs.ErrConflict) || !strings.Contains(err.Error(), "has schema MB:0=100, not 20") {
		t.Errorf("another schema: %v", err)
	}
	_, err = join(root, "c1", &specs.LinuxIntelRdt{ClosID: "gold", L3CacheSchema: "L3:7=0"}, 42)
	if !errors.Is(err, errdefs.ErrConflict) || !strings.Contains(err.Error(), "has schema L3:7=, not") {
		t.Errorf("a domain that the group does not have: %v", err)
	}
	_, err = join(root, "c1", &specs.LinuxIntelRdt{ClosID: "silver"}, 42)
	if !errors.Is(err, errdefs.ErrNotFound) || !strings.Contains(err.Error(), "must be pre-created") {
		t.Errorf("a group that is not there: %v", err)
	}
	if g, err := join(root, "c1", &specs.LinuxIntelRdt{ClosID: "/"}, 42); err != nil || g.Path != root {
		t.Errorf("the root group: %+v, %v", g, err)
	}
}

// Without a name the group is the container's: it is made, written, and removed; here the
// kernel's part of making it is done ahead, so it is not ours to remove.
func TestJoinOwnGroup(t *testing.T) {
	root := fakeRoot(t, "c1")
	r := &specs.LinuxIntelRdt{L3CacheSchema: "L3:0=f", MemBwSchema: "MB:0=20", Schemata: []string{"L3:0=7"}}
	g, err := join(root, "c1", r, 42)
	if err != nil || g != (Group{Path: root + "/c1"}) {
		t.Errorf("%+v, %v", g, err)
	}
	if got := read(t, root, "c1/schemata"); !strings.HasPrefix(got, "L3:0=f\nMB:0=20\nL3:0=7\n") {
		t.Errorf("schemata = %q", got)
	}
	g, err = join(root, "c2", r, 42)
	if err == nil || g.Made != root+"/c2" { // the fake kernel makes no files in it
		t.Errorf("%+v, %v", g, err)
	}
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(root + "/c2"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the group is still there: %v", err)
	}
	if err := g.Remove(); err != nil {
		t.Errorf("a second time: %v", err)
	}
}

// What will be made is named before it is, and nothing that others have made.
func TestChoose(t *testing.T) {
	root := fakeRoot(t, "c1", "gold", "gold/mon_groups/c1")
	for _, c := range []struct {
		id   string
		r    specs.LinuxIntelRdt
		want Group
	}{
		{"c1", specs.LinuxIntelRdt{}, Group{Path: root + "/c1"}},
		{"c2", specs.LinuxIntelRdt{EnableMonitoring: true}, Group{root + "/c2", root + "/c2", root + "/c2/mon_groups/c2"}},
		{"c1", specs.LinuxIntelRdt{ClosID: "gold", EnableMonitoring: true}, Group{Path: root + "/gold"}},
		{"c2", specs.LinuxIntelRdt{ClosID: "gold", EnableMonitoring: true}, Group{Path: root + "/gold", Monitor: root + "/gold/mon_groups/c2"}},
		{"c1", specs.LinuxIntelRdt{ClosID: "silver", L3CacheSchema: "L3:0=f"}, Group{Path: root + "/silver"}}, // stays for others
		{"c1", specs.LinuxIntelRdt{ClosID: "/"}, Group{Path: root}},
	} {
		if g := Choose(root, c.id, &c.r); g != c.want {
			t.Errorf("%s, %+v: %+v, want %+v", c.id, c.r, g, c.want)
		}
	}
	// Somebody has made it since.
	g := Group{Path: root + "/c1", Made: root + "/c1"}
	if err := g.Join("c1", &specs.LinuxIntelRdt{}, 42); err != nil || g.Made != "" {
		t.Errorf("%+v, %v", g, err)
	}
}

func TestMonitoring(t *testing.T) {
	root := fakeRoot(t, "gold", "gold/mon_groups/c1")
	r := &specs.LinuxIntelRdt{ClosID: "gold", EnableMonitoring: true}
	if _, err := join(root, "c1", r, 42); !errors.Is(err, os.ErrExist) {
		t.Errorf("a monitoring group that is there: %v", err)
	}
	g, err := join(root, "c2", r, 42)
	if err == nil || g.Monitor != root+"/gold/mon_groups/c2" {
		t.Errorf("%+v, %v", g, err)
	}
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
	g = Group{Path: root + "/gold", Monitor: root + "/gold/mon_groups/c1"}
	if err := os.Truncate(root+"/gold/tasks", 0); err != nil {
		t.Fatal(err)
	}
	if err := g.Add(7); err != nil {
		t.Fatal(err)
	}
	if a, b := read(t, root, "gold/tasks"), read(t, root, "gold/mon_groups/c1/tasks"); a != "7\n" || b != "7\n" {
		t.Errorf("tasks = %q, %q", a, b)
	}
}

// The kernel says in a file what it has not liked.
func TestRefusalIsExplained(t *testing.T) {
	root := fakeRoot(t)
	if err := os.WriteFile(root+"/info/last_cmd_status", []byte("mask f00000 is too large\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := Group{Path: root + "/gone"}
	if err := g.write([]string{"L3:0=f00000"}); err == nil || !strings.Contains(err.Error(), "(mask f00000 is too large)") {
		t.Errorf("have %v", err)
	}
}
