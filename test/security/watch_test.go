package security

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// outcome is what became of one watched command.
type outcome struct {
	Code    int
	Output  string
	Changes []string
}

// watched runs commands on a host that remembers what is done to it. Changes below the
// test's own directory do not count.
func watched(t *testing.T, dir string, commands ...[]string) []outcome {
	t.Helper()
	work, err := os.MkdirTemp("", "box-security-watch")
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(work)
	args := []string{"watch", work, dir, programs.dir}
	for _, c := range commands {
		args = append(append(args, "--"), c...)
	}
	cmd := exec.Command(programs.probe, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	r := finish(t, cmd)
	if strings.Contains(r.err, "no overlay over the root directory") {
		t.Skipf("the host cannot be watched here: %s", r.err)
	}
	if r.code != 0 {
		t.Fatalf("watch: exit %d\n%s%s", r.code, r.out, r.err)
	}
	return decode[[]outcome](t, r.out)
}

// TestWatchNotices: what the other tests rely on.
func TestWatchNotices(t *testing.T) {
	b := newBox(t)
	seen := watched(t, b.dir, []string{programs.probe, "true"}, []string{programs.probe, "spoil"})
	if len(seen[0].Changes) != 0 {
		t.Errorf("noticed what nobody did: %v", seen[0].Changes)
	}
	all := strings.Join(seen[1].Changes, "\n")
	for _, want := range []string{
		"made /etc/spoilt", "changed /dev/null", "made /etc/hostname", "made /dev/spoilt", " /mnt rw",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("%q was not noticed in:\n%s", want, all)
		}
	}
}

// shapes are what an image can have at a path instead of what belongs there. Targets
// exist on the host and not in the container, or not at all.
var shapes = []struct {
	name string
	put  func(path string) error
}{
	{"absolute symlink", func(path string) error { return os.Symlink("/usr/share", path) }},
	{"relative symlink", func(path string) error { return os.Symlink(strings.Repeat("../", 20)+"usr/share", path) }},
	{"symlink to a device", func(path string) error { return os.Symlink("/dev/console", path) }},
	{"dangling symlink", func(path string) error { return os.Symlink("/usr/share/missing/deep", path) }},
	{"symlink out by procfs", func(path string) error { return os.Symlink("/proc/1/root/usr/share", path) }},
	{"symlink to a setting", func(path string) error { return os.Symlink("/proc/sys/kernel/core_pattern", path) }},
	{"loop", func(path string) error { return os.Symlink(filepath.Base(path), path) }},
	{"fifo", func(path string) error { return unix.Mkfifo(path, 0o666) }},
	{"device", func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) }},
	{"file", func(path string) error { return os.WriteFile(path, nil, 0o755) }},
	{"directory", func(path string) error { return os.MkdirAll(path, 0o755) }},
}

// places are the paths that a runtime, or an engine through mounts, touches.
var places = []string{
	"dev", "dev/null", "dev/pts", "dev/shm", "dev/mqueue", "dev/console", "dev/ptmx", "dev/fd", "dev/stdin",
	"proc", "proc/sys", "sys", "sys/fs", "sys/fs/cgroup", "etc", "etc/passwd", "etc/group", "etc/hosts", "etc/resolv.conf",
	"etc/hostname", "etc/mtab", "etc/localtime", "run", "var", "var/run", "tmp", "data", "srv", "home", "bin",
}

// TestHostileImages puts every shape at every place and runs a container, on a terminal
// and not. Whether it comes up does not matter; it must end, and the host must be as it
// was: CVE-2026-41579, CVE-2026-47766, CVE-2019-18837, CVE-2024-5154, CVE-2026-55686 and
// whatever comes next.
func TestHostileImages(t *testing.T) {
	up := 0
	for _, place := range places {
		b := newBox(t, "true")
		b.hostileMounts()
		var commands [][]string
		for i, shape := range shapes {
			bundle := fmt.Sprintf("%s/%d", b.dir, i)
			b.fill(bundle + "/rootfs")
			put(t, filepath.Join(bundle, "rootfs", place), shape.put)
			b.spec.Process.Terminal = i%2 == 0
			b.saveIn(bundle)
			commands = append(commands, b.command("run", "--bundle", bundle, fmt.Sprint(b.id, i)).Args)
		}
		for i, o := range watched(t, b.dir, commands...) {
			if len(o.Changes) > 0 {
				t.Errorf("%s as %s (exit %d, %s): %q", place, shapes[i].name, o.Code, o.Output, o.Changes)
			}
			if o.Code == 0 {
				up++
			}
		}
	}
	t.Logf("%d of %d containers came up", up, len(places)*len(shapes))
	if up < len(places) {
		t.Error("hardly any came up: the test shows nothing")
	}
}

// put replaces what is at a path.
func put(t *testing.T, path string, shape func(string) error) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(path), os.MkdirAll(filepath.Dir(path), 0o755), shape(path)); err != nil {
		t.Fatal(err)
	}
}

// hostileMounts are mounts, masks and directories at the places that images spoil.
func (b *box) hostileMounts() {
	source := b.dir + "/source"
	if err := os.WriteFile(source, []byte("from the host"), 0o644); err != nil {
		b.t.Fatal(err)
	}
	s := b.spec
	for _, dest := range []string{"/etc/hosts", "/etc/resolv.conf", "/etc/hostname", "/var/run/secrets/file", "/run/.containerenv"} {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: dest, Type: "bind", Source: source, Options: []string{"bind", "ro"}})
	}
	for _, dest := range []string{"/data/volume", "/run/lock", "/home/user"} {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: dest, Type: "tmpfs", Source: "tmpfs", Options: []string{"size=1m"}})
	}
	s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, "/etc/mtab", "/tmp", "/usr/share")
	s.Linux.ReadonlyPaths = append(s.Linux.ReadonlyPaths, "/etc", "/data", "/run")
	s.Process.Cwd = "/srv/dir"
}

// TestExecInSpoiltContainer: a container changes itself before somebody is executed in
// it, with and without a terminal. The host must be as it was, and exec must end.
func TestExecInSpoiltContainer(t *testing.T) {
	for _, place := range []string{"dev/null", "dev/pts/ptmx", "dev/pts", "dev", "etc/passwd", "etc", "proc", "srv"} {
		b := newBox(t, "wait")
		t.Run(strings.ReplaceAll(place, "/", " "), func(t *testing.T) {
			b.t = t
			b.id += strings.ReplaceAll(place, "/", "-")
			b.spec.Mounts = b.spec.Mounts[:1] // /dev is the image's
			b.spec.Process.Cwd = "/srv"
			b.save()
			b.do("run", "--detach", b.id)
			defer b.do("delete", "--force", b.id)
			path := filepath.Join(b.root, place)
			for _, shape := range shapes {
				put(t, path, shape.put)
				plain, tty := b.command("exec", b.id, "/bin/probe", "true"), b.command("exec", "--tty", b.id, "/bin/probe", "true")
				for i, o := range watched(t, b.dir, plain.Args, tty.Args) {
					if len(o.Changes) > 0 {
						t.Errorf("%s as %s, command %d (exit %d, %s): %q", place, shape.name, i, o.Code, o.Output, o.Changes)
					}
				}
			}
		})
	}
}
