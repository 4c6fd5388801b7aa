package overlay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"box/internal/errdefs"
	"box/internal/sys"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// store opens a store that the test may mount in; it needs root.
func store(t *testing.T) *Store {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: overlay mounts and device nodes")
	}
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// both runs a test with the new mount API and with mount(2).
func both(t *testing.T, f func(t *testing.T, s *Store)) {
	for _, old := range []bool{false, true} {
		t.Run(fmt.Sprintf("oldAPI=%t", old), func(t *testing.T) {
			s := store(t)
			s.oldAPI.Store(old)
			f(t, s)
		})
	}
}

// chain names a layer in these tests.
func chain(name string) digest.Digest { return digest.FromString(name) }

// commit makes a committed layer; fill writes into it.
func commit(t *testing.T, s *Store, name, parent string, fill func(st *Staged)) digest.Digest {
	t.Helper()
	st, err := s.Stage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	fill(st)
	below := digest.Digest("")
	if parent != "" {
		below = chain(parent)
	}
	if err := st.Commit(chain(name), below); err != nil {
		t.Fatal(err)
	}
	return chain(name)
}

// write writes a file and makes its directories.
func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// read reads a file in a tree; "-" if it is not there.
func read(t *testing.T, root *os.File, name string) string {
	t.Helper()
	f, err := sys.OpenInRoot(root, name, os.O_RDONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return "-"
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, 100)
	n, _ := f.Read(buf)
	return string(buf[:n])
}

func TestViewJoinsLayers(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		commit(t, s, "base", "", func(st *Staged) {
			write(t, st.Dir, "a", "base")
			write(t, st.Dir, "b", "base")
			write(t, st.Dir, "dir/old", "base")
		})
		top := commit(t, s, "top", "base", func(st *Staged) {
			write(t, st.Dir, "a", "top")
			write(t, st.Dir, "dir/new", "top")
			dir, err := os.Open(st.Dir)
			if err != nil {
				t.Fatal(err)
			}
			defer dir.Close()
			sub, err := os.Open(filepath.Join(st.Dir, "dir"))
			if err != nil {
				t.Fatal(err)
			}
			defer sub.Close()
			if err := errors.Join(MakeWhiteout(dir, "b"), MakeOpaque(sub)); err != nil {
				t.Fatal(err)
			}
			if opaque, err := IsOpaque(sub); err != nil || !opaque {
				t.Fatalf("IsOpaque = %t, %v", opaque, err)
			}
		})
		view, err := s.View(top)
		if err != nil {
			t.Fatal(err)
		}
		defer view.Close()
		for name, want := range map[string]string{"a": "top", "b": "-", "dir/old": "-", "dir/new": "top"} {
			if got := read(t, view, name); got != want {
				t.Errorf("%s = %q, want %q", name, got, want)
			}
		}
		if _, err := sys.OpenInRoot(view, "x", os.O_CREATE|os.O_WRONLY, 0o644); err == nil {
			t.Error("a view can be written to")
		}
	})
}

func TestViewOfNothing(t *testing.T) {
	s := store(t)
	view, err := s.View("")
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	if _, err := sys.OpenInRoot(view, "x", os.O_CREATE|os.O_WRONLY, 0o644); !errors.Is(err, unix.EROFS) {
		t.Errorf("writing into a view: %v, want EROFS", err)
	}
}

func TestActiveLifeCycle(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		base := commit(t, s, "base", "", func(st *Staged) {
			write(t, st.Dir, "a", "base")
			if err := os.Chmod(st.Dir, 0o711); err != nil {
				t.Fatal(err)
			}
		})
		a, err := s.Prepare("one", base)
		if err != nil {
			t.Fatal(err)
		}
		root, err := a.Detached()
		if err != nil {
			t.Fatal(err)
		}
		if info, _ := root.Stat(); info.Mode().Perm() != 0o711 {
			t.Errorf("root has mode %o, the image says 711", info.Mode().Perm())
		}
		f, err := sys.OpenInRoot(root, "new", os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = f.WriteString("active")
		f.Close()
		root.Close()

		if again, err := s.Prepare("one", "ignored"); err != nil || again.Parent != base {
			t.Fatalf("second Prepare = %+v, %v; want the same snapshot", again, err)
		}
		if err := a.Commit(chain("built")); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Active("one"); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("after Commit the snapshot is still there: %v", err)
		}
		view, err := s.View(chain("built"))
		if err != nil {
			t.Fatal(err)
		}
		defer view.Close()
		if got := read(t, view, "new") + read(t, view, "a"); got != "activebase" {
			t.Errorf("committed tree reads %q", got)
		}
		if left, _ := os.ReadDir(filepath.Join(s.dir, "stage")); len(left) > 0 {
			t.Errorf("left in stage/: %v", left)
		}
	})
}

func TestMountStaysPrivateAndTakesBottom(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		base := commit(t, s, "base", "", func(st *Staged) { write(t, st.Dir, "etc/passwd", "image") })
		a, err := s.Prepare("one", base)
		if err != nil {
			t.Fatal(err)
		}
		bottom, target := t.TempDir(), t.TempDir()
		write(t, bottom, "etc/resolv.conf", "stub")
		write(t, bottom, "etc/passwd", "stub")
		err = PrivateMounts(t.Context(), func() error {
			if err := a.MountOver(target, bottom); err != nil {
				return err
			}
			// A child started here lives in the namespace, too.
			out, err := exec.Command("cat", target+"/etc/passwd", target+"/etc/resolv.conf").Output()
			if string(out) != "imagestub" {
				return fmt.Errorf("in the mount: %q, %v", out, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if left, _ := os.ReadDir(target); len(left) > 0 {
			t.Errorf("the mount is seen outside: %v", left)
		}
		if left, _ := os.ReadDir(a.Upper()); len(left) > 0 {
			t.Errorf("mount points were written into the snapshot: %v", left)
		}
	})
}

// A volatile snapshot can be mounted again and committed.
func TestVolatile(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		a, err := s.Prepare("one", commit(t, s, "base", "", func(*Staged) {}))
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			root, err := a.Volatile().Detached()
			if err != nil {
				t.Fatal(err)
			}
			f, err := sys.OpenInRoot(root, fmt.Sprint(i), os.O_CREATE|os.O_WRONLY, 0o644)
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
			root.Close()
		}
		target := t.TempDir()
		err = PrivateMounts(t.Context(), func() error {
			if err := a.Volatile().Mount(target); err != nil {
				return err
			}
			info, err := os.ReadFile("/proc/thread-self/mountinfo")
			if !strings.Contains(string(info), "volatile") {
				return fmt.Errorf("the mount is not volatile: %v", err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Commit(chain("built")); err != nil {
			t.Fatal(err)
		}
		if entries, _, err := count(filepath.Join(s.dir, "layers", chain("built").Encoded(), "diff")); entries != 4 {
			t.Errorf("the layer has %d entries, %v; want 4", entries, err)
		}
	})
}

func TestManyLayers(t *testing.T) {
	for _, c := range []struct {
		old   bool
		count int
	}{{false, 400}, {true, 200}} {
		t.Run(fmt.Sprintf("oldAPI=%t", c.old), func(t *testing.T) {
			s := store(t)
			s.oldAPI.Store(c.old)
			parent := ""
			for i := range c.count {
				name := fmt.Sprint("layer", i)
				commit(t, s, name, parent, func(st *Staged) { write(t, st.Dir, fmt.Sprint(i), name) })
				parent = name
			}
			a, err := s.Prepare("many", chain(parent))
			if err != nil {
				t.Fatal(err)
			}
			root, err := a.Detached()
			if err != nil && !c.old && s.oldAPI.Load() {
				t.Skipf("the kernel has no lowerdir+: %v", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			if got := read(t, root, "0"); got != "layer0" {
				t.Errorf("lowest file reads %q", got)
			}
		})
	}
}

func TestImpliedDirectories(t *testing.T) {
	s := store(t)
	when := time.Unix(1000000000, 5)
	commit(t, s, "base", "", func(st *Staged) {
		write(t, st.Dir, "run/here", "base")
		write(t, st.Dir, "etc/x", "base")
		if err := os.MkdirAll(filepath.Join(st.Dir, "var"), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("../run", filepath.Join(st.Dir, "var/run")); err != nil {
			t.Fatal(err)
		}
		etc := filepath.Join(st.Dir, "etc")
		err := errors.Join(os.Chown(etc, 12, 34), os.Chmod(etc, 0o700|os.ModeSetgid),
			unix.Setxattr(etc, "trusted.note", []byte("kept"), 0), os.Chtimes(etc, when, when))
		if err != nil {
			t.Fatal(err)
		}
	})
	top := commit(t, s, "top", "base", func(st *Staged) {
		write(t, st.Dir, "etc/y", "top")
		write(t, st.Dir, "var/run/sub/pid", "top")
		st.Implied = []string{".", "etc", "var", "var/run", "var/run/sub"}
		st.Links = []Link{{Name: "etc/z", Target: "etc/x"}}
	})
	view, err := s.View(top)
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	for name, want := range map[string]string{"run/here": "base", "run/sub/pid": "top", "var/run/sub/pid": "top", "etc/y": "top", "etc/z": "base"} {
		if got := read(t, view, name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	var st unix.Stat_t
	if err := unix.Fstatat(int(view.Fd()), "etc", &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		t.Fatal(err)
	}
	if st.Mode&0o7777 != 0o2700 || st.Uid != 12 || st.Gid != 34 || st.Mtim.Nano() != when.UnixNano() {
		t.Errorf("implied etc is %o %d:%d %d", st.Mode&0o7777, st.Uid, st.Gid, st.Mtim.Nano())
	}
	if v, err := getXattr(fmt.Sprintf("/proc/self/fd/%d/etc", view.Fd()), "trusted.note"); string(v) != "kept" {
		t.Errorf("xattr of implied etc: %q, %v", v, err)
	}
	if err := unix.Fstatat(int(view.Fd()), "var/run", &st, unix.AT_SYMLINK_NOFOLLOW); err != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK {
		t.Errorf("var/run is no longer a symlink: %o, %v", st.Mode, err)
	}
}

// Links to one file below are one file again, not a copy each: those of a small
// layer could fill any disk.
func TestLinksBelowShareOneCopy(t *testing.T) {
	s := store(t)
	commit(t, s, "base", "", func(st *Staged) {
		write(t, st.Dir, "one", "1")
		write(t, st.Dir, "two", "2")
		write(t, st.Dir, "hole", "")
		if err := os.Truncate(filepath.Join(st.Dir, "hole"), 1<<30); err != nil {
			t.Fatal(err)
		}
	})
	top := commit(t, s, "top", "base", func(st *Staged) {
		write(t, st.Dir, "d/own", "top")
		st.Links = []Link{{"a", "one"}, {"b", "two"}, {"d/c", "one"}, {"e", "two"}, {"f", "hole"}}
	})
	view, err := s.View(top)
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	inodes := map[string]uint64{}
	for name, want := range map[string]string{"a": "1", "b": "2", "d/c": "1", "e": "2"} {
		if got := read(t, view, name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
		var st unix.Stat_t
		if err := unix.Fstatat(int(view.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			t.Fatal(err)
		}
		inodes[name] = st.Ino
	}
	var st unix.Stat_t
	if err := unix.Fstatat(int(view.Fd()), "f", &st, unix.AT_SYMLINK_NOFOLLOW); err != nil || st.Size != 1<<30 || st.Blocks != 0 {
		t.Errorf("a hole takes %d blocks: %v", st.Blocks, err)
	}
	if inodes["a"] != inodes["d/c"] || inodes["b"] != inodes["e"] || inodes["a"] == inodes["b"] {
		t.Errorf("links are not the files that they were: %v", inodes)
	}
}

func TestLinkToNothingIsRefused(t *testing.T) {
	s := store(t)
	commit(t, s, "base", "", func(*Staged) {})
	for _, parent := range []digest.Digest{"", chain("base")} {
		st, err := s.Stage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		st.Links = []Link{{Name: "a", Target: "../../etc/passwd"}}
		if err := st.Commit(chain("x"), parent); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("on %q: %v, want ErrInvalid", parent, err)
		}
		if err := st.Discard(); err != nil {
			t.Error(err)
		}
	}
}

func TestSweepTakesOnlyDeadOwners(t *testing.T) {
	s := store(t)
	alive, err := s.Stage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Discard()
	dead := filepath.Join(s.dir, "stage", "dead")
	write(t, dead, "diff/file", "x")
	if err := s.Sweep(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(dead); !errors.Is(err, os.ErrNotExist) {
		t.Error("a leftover without owner stayed")
	}
	if _, err := os.Lstat(alive.Dir); err != nil {
		t.Errorf("the directory of a living owner is gone: %v", err)
	}
}

// After a power failure a layer that lacks files or bytes counts as absent and
// can be committed anew; one that is whole stays.
func TestLayerOfAnEarlierBoot(t *testing.T) {
	s := store(t)
	fill := func(st *Staged) { write(t, st.Dir, "dir/a", "some bytes") }
	whole, short := commit(t, s, "whole", "", fill), commit(t, s, "short", "", fill)
	empty := filepath.Join(s.dir, "layers", short.Encoded(), "diff/dir/a")
	if err := os.Truncate(empty, 0); err != nil {
		t.Fatal(err)
	}
	if !s.Has(short) {
		t.Error("within one boot a layer is not looked at")
	}
	s.boot = "later"
	if s.Has(short) || !s.Has(whole) {
		t.Errorf("Has: short %t, whole %t; want false, true", s.Has(short), s.Has(whole))
	}
	commit(t, s, "short", "", fill)
	if !s.Has(short) {
		t.Error("the layer cannot be committed anew")
	}
	if err := os.Remove(empty); err != nil {
		t.Fatal(err)
	}
	s.boot = "third"
	if err := s.Sweep(); err != nil {
		t.Fatal(err)
	}
	if all, _ := s.List(); len(all) != 1 || all[0] != whole {
		t.Errorf("after Sweep: %v, want only the whole one", all)
	}
}

func TestConcurrentCommitOfOneChain(t *testing.T) {
	s := store(t)
	errs := make(chan error, 8)
	for range cap(errs) {
		go func() {
			st, err := s.Stage(context.Background())
			if err == nil {
				err = os.WriteFile(filepath.Join(st.Dir, "a"), []byte("x"), 0o644)
			}
			if err == nil {
				err = st.Commit(chain("same"), "")
			}
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if left, _ := os.ReadDir(filepath.Join(s.dir, "stage")); len(left) > 0 {
		t.Errorf("left in stage/: %v", left)
	}
}

func TestBadNames(t *testing.T) {
	s := store(t)
	for _, key := range []string{"", "..", ".x", "a/b", "a\x00", strings.Repeat("x", 201)} {
		if _, err := s.Prepare(key, ""); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("Prepare(%q): %v, want ErrInvalid", key, err)
		}
		if err := s.RemoveActive(key); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("RemoveActive(%q): %v, want ErrInvalid", key, err)
		}
	}
	for _, id := range []digest.Digest{"sha256:../../x", "x", "sha256:" + digest.Digest(strings.Repeat("Z", 64))} {
		if _, err := s.Lowers(id); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("Lowers(%q): %v, want ErrInvalid", id, err)
		}
	}
	if _, err := s.Prepare("one", chain("nowhere")); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("Prepare on a missing layer: %v, want ErrNotFound", err)
	}
}

func Example() {
	dir, err := os.MkdirTemp("", "overlay-example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	s, err := Open(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	layer, err := s.Stage(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	id := digest.FromString("the diffID of the layer")
	if err := layer.Commit(id, ""); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(s.Has(id), s.Has(digest.FromString("another")))
	// Output: true false
}
