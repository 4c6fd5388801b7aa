package rootfs

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/launch"
	"box/pkg/namespaces"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// facts of an imaginary host, on which all sources are directories and all mount
// points exist.
func facts(s *specs.Spec) Facts {
	f := Facts{Root: "/bundle/rootfs", Cgroup2: "/sys/fs/cgroup", Kcore: true}
	for _, m := range s.Mounts {
		mf := MountFacts{}
		if isBind(m) {
			mf.Source = absolute("/bundle", m.Source)
		}
		f.Mounts = append(f.Mounts, mf)
	}
	return f
}

// golden compares the plan for s with the file of that name.
func golden(t *testing.T, name string, s *specs.Spec, f Facts) {
	t.Helper()
	ns, err := namespaces.From(s.Linux)
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(s, ns, f)
	if err != nil {
		t.Fatal(err)
	}
	p := &launch.Plan{ReportFD: 3}
	r.UseHelper(4)
	r.AddMounts(p)
	r.AddMasks(p)
	r.AddWorkdir(p, "/app")
	r.AddPivot(p)
	AddEnter(p, "/app")()
	if _, err := launch.Compile(p, launch.HostArch); err != nil {
		t.Error(err)
	}
	path := filepath.Join("testdata", name+".plan")
	got := []byte(p.String())
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("plan differs from %s (run with -update and look at the difference): %s", path, cmp.Diff(string(want), string(got)))
	}
}

func TestGoldenStandard(t *testing.T) {
	s := standard("rootfs")
	s.Root.Readonly = true
	golden(t, "standard", s, facts(s))
}

func TestGoldenBinds(t *testing.T) {
	s := &specs.Spec{Root: &specs.Root{Path: "rootfs"}, Linux: &specs.Linux{
		Namespaces:        []specs.LinuxNamespace{{Type: specs.MountNamespace}},
		RootfsPropagation: "rshared",
		Devices:           []specs.LinuxDevice{{Path: "/dev/net/tun", Type: "c", Major: 10, Minor: 200, GID: new(uint32(5))}},
	}}
	s.Mounts = []specs.Mount{
		{Destination: "/data", Source: "data", Options: []string{"rbind", "rro", "nosuid", "rshared"}},
		{Destination: "/data/sub/file", Type: "bind", Source: "/etc/hosts", Options: []string{"ro", "noatime"}},
		{Destination: "/missing/dir", Type: "tmpfs", Options: []string{"ro", "size=1m"}},
	}
	f := facts(s)
	f.Mounts[1].File = true
	f.Mounts[2].Missing = "/elsewhere/dir"
	golden(t, "binds", s, f)
}

func TestGoldenUserNamespace(t *testing.T) {
	s := &specs.Spec{Root: &specs.Root{Path: "rootfs"}, Linux: &specs.Linux{
		Namespaces:  []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.UserNamespace}},
		UIDMappings: []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}},
		GIDMappings: []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}},
	}}
	s.Mounts = []specs.Mount{
		{Destination: "/dev", Type: "tmpfs"},
		{Destination: "/sys/fs/cgroup", Type: "cgroup"},
	}
	golden(t, "userns", s, facts(s))
}

// TestGoldenConfined: a runtime that lives in a user namespace itself makes no nodes either.
func TestGoldenConfined(t *testing.T) {
	s := &specs.Spec{Root: &specs.Root{Path: "rootfs"}, Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}}}}
	s.Mounts = []specs.Mount{
		{Destination: "/dev", Type: "tmpfs"},
		{Destination: "/sys/fs/cgroup", Type: "cgroup"},
	}
	f := facts(s)
	f.Confined = true
	golden(t, "confined", s, f)
}

// TestGoldenNoPivot: the host's own procfs and sysfs are hidden, then the root is moved.
func TestGoldenNoPivot(t *testing.T) {
	s := &specs.Spec{Root: &specs.Root{Path: "rootfs"}, Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}}}}
	f := facts(s)
	f.NoPivot, f.Full = true, fullMounts(strings.Join([]string{
		"22 1 0:21 / /proc rw,nosuid - proc proc rw",
		"23 1 0:22 / /sys rw - sysfs sysfs rw",
		"24 22 0:21 /sys /jail/sys ro - proc proc rw", // a part of it only
		"25 1 0:23 / /bundle/rootfs/proc rw - proc proc rw",
		"26 1 0:24 / /with\\040space rw shared:1 - proc proc rw",
		"27 1 0:25 / / rw - ext4 /dev/vda rw",
		"",
	}, "\n"))
	golden(t, "nopivot", s, f)
}

// TestGoldenShared: in a mount namespace that others use nothing but the container's own
// mounts is changed.
func TestGoldenShared(t *testing.T) {
	s := &specs.Spec{Root: &specs.Root{Path: "rootfs", Readonly: true}, Linux: &specs.Linux{}}
	s.Mounts = []specs.Mount{{Destination: "/proc", Type: "proc"}}
	golden(t, "shared", s, facts(s))
}

// TestGoldenHierarchies: cgroup v1 with a cgroup namespace, and without.
func TestGoldenHierarchies(t *testing.T) {
	for name, kinds := range map[string][]specs.LinuxNamespaceType{
		"hierarchies":      {specs.MountNamespace, specs.CgroupNamespace},
		"hierarchies-host": {specs.MountNamespace},
	} {
		s := &specs.Spec{Root: &specs.Root{Path: "rootfs"}, Linux: &specs.Linux{}}
		for _, k := range kinds {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: k})
		}
		s.Mounts = []specs.Mount{
			{Destination: "/dev", Type: "tmpfs"},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid"}},
		}
		f := facts(s)
		f.Hierarchies = []Hierarchy{{"cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct/c1"}, {"name=systemd", "/sys/fs/cgroup/systemd/c1"}}
		golden(t, name, s, f)
	}
}

// TestGoldenErrands: what the program asks its parent for.
func TestGoldenErrands(t *testing.T) {
	ids := []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
	s := &specs.Spec{Root: &specs.Root{Path: "rootfs"}, Linux: &specs.Linux{
		Namespaces:  []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.UserNamespace}},
		UIDMappings: ids, GIDMappings: ids,
	}}
	s.Mounts = []specs.Mount{
		{Destination: "/plain", Source: "/host/plain", Options: []string{"rbind", "nodev"}},
		{Destination: "/mapped", Source: "/host/mapped", Options: []string{"bind", "ridmap"}},
		{Destination: "/etc", Type: "tmpfs", Options: []string{"tmpcopyup"}},
		{Destination: "/etc", Type: "tmpfs", Options: []string{"remount", "ro", "size=1m"}},
		{Destination: "/plain", Source: "none", Options: []string{"remount", "bind", "ro"}},
	}
	golden(t, "errands", s, facts(s))
}

func TestParseOptions(t *testing.T) {
	for _, c := range []struct {
		words string
		want  options
	}{
		{"", options{}},
		{"defaults async ro nosuid", options{named: true, set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID}},
		{"ro rw", options{named: true, clear: unix.MOUNT_ATTR_RDONLY}},
		{"rw ro", options{named: true, set: unix.MOUNT_ATTR_RDONLY}},
		{"noatime", options{named: true, set: unix.MOUNT_ATTR_NOATIME, clear: unix.MOUNT_ATTR__ATIME}},
		{"noatime strictatime", options{named: true, set: unix.MOUNT_ATTR_STRICTATIME, clear: unix.MOUNT_ATTR__ATIME}},
		{"noatime atime", options{named: true, clear: unix.MOUNT_ATTR__ATIME}},
		{"atime", options{named: true}},
		{"nodiratime", options{named: true, set: unix.MOUNT_ATTR_NODIRATIME, clear: unix.MOUNT_ATTR__ATIME}},
		{"noatime nodiratime", options{named: true, set: unix.MOUNT_ATTR_NOATIME | unix.MOUNT_ATTR_NODIRATIME, clear: unix.MOUNT_ATTR__ATIME}},
		{"ratime", options{clearAll: unix.MOUNT_ATTR__ATIME}},
		{"rro ro", options{named: true, setAll: unix.MOUNT_ATTR_RDONLY, set: unix.MOUNT_ATTR_RDONLY}},
		{"rbind rslave", options{bind: true, recursive: true, propagation: unix.MS_SLAVE, propagateAll: true}},
		{"bind private", options{bind: true, propagation: unix.MS_PRIVATE}},
		{"bind ridmap", options{bind: true, mapped: true, mapAll: true}},
		{"ridmap idmap", options{mapped: true}},
		{"remount tmpcopyup", options{remount: true, copyUp: true}},
		{"size=1m newinstance", options{data: []string{"size=1m", "newinstance"}}},
	} {
		got, err := parseOptions(strings.Fields(c.words))
		if err != nil || cmp.Diff(c.want, got, cmp.AllowUnexported(options{})) != "" {
			t.Errorf("parseOptions(%q) = %+v, %v; want %+v", c.words, got, err, c.want)
		}
	}
}

// TestImpliedAttributes: a bind mount with any word for attributes has those and no
// others; without one it is as its source.
func TestImpliedAttributes(t *testing.T) {
	const all = lockable | unix.MOUNT_ATTR_NOSYMFOLLOW
	for words, want := range map[string]uint64{
		"bind rprivate rro": 0,
		"bind dev":          all &^ unix.MOUNT_ATTR_NODEV, // taken away by name
		"bind ro nosuid":    all &^ (unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID),
		"bind atime":        all,
		"bind noatime":      all | unix.MOUNT_ATTR_NODIRATIME,
		"bind nodiratime":   all,
	} {
		o, err := parseOptions(strings.Fields(words))
		if got := o.implied(); err != nil || got != want {
			t.Errorf("implied by %q: %#x, %v; want %#x", words, got, err, want)
		}
	}
}

// TestNotes: engines write options of a file system for bind mounts too, and the kernel
// has always ignored them there.
func TestNotes(t *testing.T) {
	s := &specs.Spec{Root: &specs.Root{Path: "rootfs"}, Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}}}}
	s.Mounts = []specs.Mount{{Destination: "/x", Type: "bind", Options: []string{"ro", "size=1", "sync"}}}
	set, err := namespaces.From(s.Linux)
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(s, set, facts(s))
	if err != nil || len(r.Notes()) != 1 || !strings.HasSuffix(r.Notes()[0], "/x that mean nothing for a bind mount: size=1 sync") {
		t.Errorf("notes %q, %v", r.Notes(), err)
	}
}

func TestNewRefuses(t *testing.T) {
	ns := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	for _, c := range []struct {
		name string
		edit func(s *specs.Spec)
		want error
	}{
		{"masks of the host", func(s *specs.Spec) { s.Linux.Namespaces, s.Linux.MaskedPaths = nil, []string{"/proc/kcore"} }, errdefs.ErrInvalid},
		{"mount on root", func(s *specs.Spec) { s.Mounts = []specs.Mount{{Destination: "/..", Type: "tmpfs"}} }, errdefs.ErrInvalid},
		{"no type", func(s *specs.Spec) { s.Mounts = []specs.Mount{{Destination: "/x"}} }, errdefs.ErrInvalid},
		{"tmpcopyup", func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Destination: "/x", Type: "proc", Options: []string{"tmpcopyup"}}}
		}, errdefs.ErrInvalid},
		{"nofollow", func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Destination: "/x", Type: "bind", Options: []string{"src-nofollow"}}}
		}, errdefs.ErrUnsupported},
		{"half a map", func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Destination: "/x", Type: "bind", UIDMappings: []specs.LinuxIDMapping{{Size: 1}}}}
		}, errdefs.ErrInvalid},
		{"no map at all", func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Destination: "/x", Type: "bind", Options: []string{"idmap"}}}
		}, errdefs.ErrInvalid},
		{"map of no bind mount", func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Destination: "/x", Type: "tmpfs", Options: []string{"idmap"}}}
		}, errdefs.ErrInvalid},
		{"fake proc", func(s *specs.Spec) { s.Mounts = []specs.Mount{{Destination: "/proc", Type: "tmpfs"}} }, errdefs.ErrInvalid},
		{"inside proc", func(s *specs.Spec) { s.Mounts = []specs.Mount{{Destination: "/proc/self/attr", Type: "tmpfs"}} }, errdefs.ErrInvalid},
		{"propagation", func(s *specs.Spec) { s.Linux.RootfsPropagation = "sharded" }, errdefs.ErrInvalid},
		{"device type", func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "d"}} }, errdefs.ErrInvalid},
		{"device number", func(s *specs.Spec) {
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "c", Major: 1 << 33}}
		}, errdefs.ErrInvalid},
		{"host cgroups that are not there", func(s *specs.Spec) { s.Mounts = []specs.Mount{{Destination: "/c", Type: "cgroup"}} }, errdefs.ErrUnsupported},
	} {
		s := &specs.Spec{Root: &specs.Root{Path: "rootfs"}, Linux: &specs.Linux{Namespaces: ns}}
		c.edit(s)
		set, err := namespaces.From(s.Linux)
		if err != nil {
			t.Fatal(err)
		}
		f := facts(s)
		f.Cgroup2 = ""
		if _, err := New(s, set, f); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestResolveStaysInside(t *testing.T) {
	root := t.TempDir()
	for link, to := range map[string]string{"abs": "/a/b", "up": "../../x", "chain": "abs/c", "loop": "loop", "dots": "a/../abs/.."} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for dest, want := range map[string]string{
		"/plain/dir": "/plain/dir", "/abs/z": "/a/b/z", "/up": "/x", "/chain": "/a/b/c", "/dots/y": "/a/y", "/loop/x": "/loop/x", "/": "",
	} {
		if got := missing(int(dir.Fd()), dest); got != want && (dest != "/loop/x" || got != "") {
			t.Errorf("missing(%s) = %q, want %q", dest, got, want)
		}
	}
}

// TestFileModeForms: engines write fileMode as permissions, as mode_t with its type,
// or as Go's bits.
func TestFileModeForms(t *testing.T) {
	for mode, want := range map[os.FileMode]uint32{
		0o640: 0o640, 0o020666: 0o666, 0o4755: 0o4755, 0o755 | os.ModeSetuid: 0o4755, 0o777 | os.ModeSticky: 0o1777, os.ModeDevice | os.ModeCharDevice | 0o600: 0o600,
	} {
		if got := fileMode(mode); got != want {
			t.Errorf("fileMode(%#o) = %#o, want %#o", uint32(mode), got, want)
		}
	}
}

// TestHostCgroups: without a cgroup namespace the container sees the host's hierarchy,
// and with ids of its own only to read (CVE-2023-25809).
func TestHostCgroups(t *testing.T) {
	m := specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"rw", "nsdelegate"}}
	for _, c := range []struct {
		namespaces []specs.LinuxNamespaceType
		kind       string
		readonly   bool
	}{
		{[]specs.LinuxNamespaceType{specs.CgroupNamespace}, "cgroup2", false},
		{nil, "", false},
		{[]specs.LinuxNamespaceType{specs.UserNamespace}, "", true},
		{[]specs.LinuxNamespaceType{specs.UserNamespace, specs.CgroupNamespace}, "cgroup2", false},
	} {
		s := &specs.Spec{Root: &specs.Root{}, Mounts: []specs.Mount{m}, Linux: &specs.Linux{
			Namespaces:  []specs.LinuxNamespace{{Type: specs.MountNamespace}},
			UIDMappings: []specs.LinuxIDMapping{{Size: 1}},
			GIDMappings: []specs.LinuxIDMapping{{Size: 1}},
		}}
		for _, n := range c.namespaces {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: n})
		}
		if !slices.Contains(c.namespaces, specs.UserNamespace) {
			s.Linux.UIDMappings, s.Linux.GIDMappings = nil, nil
		}
		set, err := namespaces.From(s.Linux)
		if err != nil {
			t.Fatal(err)
		}
		r, err := New(s, set, facts(s))
		if err != nil {
			t.Fatal(err)
		}
		got := r.mounts[0]
		if got.kind != c.kind || got.bind != (c.kind == "") || (got.set&unix.MOUNT_ATTR_RDONLY != 0) != c.readonly {
			t.Errorf("%v: mount %+v, want kind %q, read-only %t", c.namespaces, got, c.kind, c.readonly)
		}
	}
}
