package security

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// racing exchanges two names in a directory, at full speed and from another process,
// during f.
func racing(t *testing.T, dir, one, other string, f func()) {
	t.Helper()
	cmd := exec.Command(programs.probe, "race", dir, one, other)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	f()
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("racer: %v: %s", err, errs.String())
	}
	if n := decode[int](t, out.String()); n < 1000 {
		t.Errorf("only %d exchanges: the test shows nothing", n)
	}
}

// wayOut is the target of the symlinks: a directory of the host.
var wayOut = strings.Repeat("../", 20) + "usr/share"

// starts is how many containers are started in each race, watchEach how many of them in
// one watch.
const starts, watchEach = 40, 20

// TestMountPointRace: containers have mounts below a name in a volume that another
// container, who shares it, exchanges with a symlink all the time: CVE-2021-30465,
// CVE-2024-45310.
func TestMountPointRace(t *testing.T) {
	b := newBox(t, "true")
	volume := b.dir + "/volume"
	if err := os.MkdirAll(volume+"/dir", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(wayOut, volume+"/link"); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(b.root+"/usr/share", 0o755); err != nil { // so that containers can come up
		t.Fatal(err)
	}
	source := b.dir + "/source"
	if err := os.WriteFile(source, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	bind := []string{"bind"}
	b.spec.Mounts = append(b.spec.Mounts,
		specs.Mount{Destination: "/vol", Type: "bind", Source: volume, Options: bind},
		specs.Mount{Destination: "/vol/dir", Type: "tmpfs", Source: "tmpfs"},
		specs.Mount{Destination: "/vol/dir/a/b", Type: "tmpfs", Source: "tmpfs"},
		specs.Mount{Destination: "/vol/link/file", Type: "bind", Source: source, Options: bind},
	)
	b.spec.Linux.MaskedPaths = append(b.spec.Linux.MaskedPaths, "/vol/link/doc")
	b.spec.Linux.ReadonlyPaths = append(b.spec.Linux.ReadonlyPaths, "/vol/dir/a")
	b.spec.Process.Cwd = "/vol/dir/work"
	b.save()
	racing(t, volume, "dir", "link", func() { b.startWatched(nil) })
}

// startWatched starts containers while the host is watched, and lets check look at each.
func (b *box) startWatched(check func(outcome)) {
	b.t.Helper()
	up, failures := 0, map[string]int{}
	for range starts / watchEach {
		var commands [][]string
		for range watchEach {
			commands = append(commands, b.command("run", "--bundle", b.bundle, b.id).Args)
		}
		for _, o := range watched(b.t, b.dir, commands...) {
			if len(o.Changes) > 0 {
				b.t.Errorf("exit %d, %s: %q", o.Code, o.Output, o.Changes)
			}
			if o.Code == 0 {
				up++
			} else {
				failures[o.Output]++
			}
			if check != nil {
				check(o)
			}
		}
	}
	b.t.Logf("%d of %d containers came up; the others: %v", up, starts, failures)
}

// TestRootRace: what is raced is a directory of the container's own root file system,
// which another container uses as well: CVE-2019-19921, CVE-2023-27561, CVE-2023-28642,
// CVE-2025-52881. Beside the host, what masks and read-only paths protect is looked at
// from inside: they must lie on the procfs that the container has, or it must not start.
func TestRootRace(t *testing.T) {
	for _, name := range []string{"proc", "sys", "dev", "etc"} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, "covered")
			b.race(t, name, wayOut)
			if name == "proc" {
				b.race(t, name, "/decoy")
			}
		})
	}
}

// race starts containers while a directory of their root is exchanged with a symlink.
func (b *box) race(t *testing.T, name, link string) {
	t.Helper()
	// A place that looks right at first sight, for masks to be put on in vain.
	for _, dir := range []string{"/decoy/sys/kernel", "/decoy/pts"} {
		if err := os.MkdirAll(b.root+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put(t, filepath.Join(b.root, "link"), func(path string) error { return os.Symlink(link, path) })
	source := b.dir + "/source"
	if err := os.WriteFile(source, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if name == "etc" {
		b.spec.Mounts = append(b.spec.Mounts, specs.Mount{Destination: "/etc/hosts", Type: "bind", Source: source, Options: []string{"bind"}})
	}
	b.save()
	seen := map[string]int{}
	racing(t, b.root, name, "link", func() {
		b.startWatched(func(o outcome) {
			if o.Code != 0 {
				return
			}
			c := decode[struct{ Proc, Writable, Kcore bool }](t, o.Output)
			seen[fmt.Sprintf("%+v", c)]++
			if c.Writable || c.Kcore {
				t.Errorf("the container has an open procfs: %+v", c)
			}
		})
	})
	t.Log(seen)
}
