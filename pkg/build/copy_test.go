package build

import (
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"box/internal/errdefs"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestCopySemantics checks what each form of COPY makes of a context, by the
// layer that comes out.
func TestCopySemantics(t *testing.T) {
	w := newWorld(t)
	w.put("a.txt", "a")
	w.put("b.txt", "b")
	w.put("c.md", "c")
	w.put("dir/sub/deep", "d")
	w.put("dir/exec", "e")
	w.put("dir/.hidden", "h")
	w.put("[x]", "brackets")
	for _, f := range []func() error{
		func() error { return unix.Chmod(filepath.Join(w.dir, "dir/exec"), 0o4755) },
		func() error { return os.Chmod(filepath.Join(w.dir, "dir"), 0o750) },
		func() error { return os.Chown(filepath.Join(w.dir, "a.txt"), 55, 66) },
		func() error { return os.Symlink("a.txt", filepath.Join(w.dir, "link")) },
		func() error { return os.Symlink("dir", filepath.Join(w.dir, "dlink")) },
		func() error { return os.Symlink("/nowhere", filepath.Join(w.dir, "dir/dangling")) },
		func() error { return os.Link(filepath.Join(w.dir, "dir/exec"), filepath.Join(w.dir, "dir/twin")) },
		func() error { return unix.Mkfifo(filepath.Join(w.dir, "dir/pipe"), 0o600) },
	} {
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	dir := []string{
		"D/ 0750 0:0", "D/.hidden 0644 0:0", "D/dangling 0777 0:0 -> /nowhere", "D/exec 4755 0:0",
		"D/pipe 0600 0:0", "D/sub/ 0755 0:0", "D/sub/deep 0644 0:0", "D/twin 4755 0:0 -> D/exec",
	}
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"file to name", "COPY a.txt /f", []string{"f 0644 0:0"}},
		{"file to new directory", "COPY a.txt /n/m/", []string{"n/ 0755 0:0", "n/m/ 0755 0:0", "n/m/a.txt 0644 0:0"}},
		{"file into existing directory", "COPY a.txt /tmp", []string{"tmp/ 1777 0:0", "tmp/a.txt 0644 0:0"}},
		{"wildcard", "COPY *.txt /t/", []string{"t/ 0755 0:0", "t/a.txt 0644 0:0", "t/b.txt 0644 0:0"}},
		{"wildcard without match", "COPY nomatch* /t/", nil},
		{"wildcard in directory", "COPY d*r/s*/* /t/", []string{"t/ 0755 0:0", "t/deep 0644 0:0"}},
		{"escaped wildcard", "COPY [[]x] /x", []string{"x 0644 0:0"}},
		{"directory contents", "COPY dir /D", dir},
		{"directory by link", "COPY dlink /D/", dir},
		{"link named is followed", "COPY link /f", []string{"f 0644 0:0"}},
		{"dots are clipped", "COPY ../../a.txt /f", []string{"f 0644 0:0"}},
		{"chown by name", "COPY --chown=app:extra a.txt /n/", []string{"n/ 0755 1000:1002", "n/a.txt 0644 1000:1002"}},
		{"chown user alone", "COPY --chown=app a.txt /f", []string{"f 0644 1000:1000"}},
		{"chown by number", "COPY --chown=7:8 a.txt /f", []string{"f 0644 7:8"}},
		{"chmod octal", "COPY --chmod=700 a.txt /n/f", []string{"n/ 0700 0:0", "n/f 0700 0:0"}},
		{"chmod symbolic", "COPY --chmod=u=rwX,go=rX dir/exec /f", []string{"f 0755 0:0"}},
		{"through relative link", "COPY a.txt /lnk/app/", []string{"home/ 0755 0:0", "home/app/ 0755 1000:1000", "home/app/a.txt 0644 0:0"}},
		{"through absolute link", "COPY a.txt /abs/", []string{"home/ 0755 0:0", "home/app/ 0755 1000:1000", "home/app/a.txt 0644 0:0"}},
		{"onto a link to a directory", "COPY a.txt /lnk", []string{"home/ 0755 0:0", "home/a.txt 0644 0:0"}},
		{"exclude", "COPY --exclude=*.txt --exclude=dir --exclude=*link --exclude=[[]x] . /e/", []string{"e/ 0755 0:0", "e/c.md 0644 0:0"}},
		{"inline", "COPY <<one <<two /i/\n1\none\n2\ntwo", []string{"i/ 0755 0:0", "i/one 0644 0:0", "i/two 0644 0:0"}},
		{"existing directory keeps its mode", "COPY dir/sub /home/app", []string{"home/ 0755 0:0", "home/app/ 0755 1000:1000", "home/app/deep 0644 0:0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := w.try(t.Context(), "FROM busybox\n"+c.text+"\n", nil)
			if err != nil {
				t.Fatal(err)
			}
			got := w.layer(r.Image)
			if c.name == "exclude" {
				got = got[:min(len(got), 2)]
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestCopyKeepsTimesAndAttributes checks what the layer's listing does not show.
func TestCopyKeepsTimesAndAttributes(t *testing.T) {
	w := newWorld(t)
	w.put("f", "x")
	p := filepath.Join(w.dir, "f")
	if err := unix.Setxattr(p, "user.note", []byte("hello"), 0); err != nil {
		t.Skipf("no user attributes here: %v", err)
	}
	capability := []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if err := unix.Setxattr(p, "security.capability", capability, 0); err != nil {
		t.Fatal(err)
	}
	want := unix.Timespec{Sec: 1500000000, Nsec: 123456789}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{want, want}, 0); err != nil {
		t.Fatal(err)
	}
	r := w.build("FROM busybox\nCOPY f /etc/f\n")
	root, err := w.env.Store.Overlay().View(r.Image.ChainID())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	var st, etc unix.Stat_t
	if err := unix.Fstatat(int(root.Fd()), "etc/f", &st, 0); err != nil || st.Mtim != want {
		t.Errorf("mtime %v: %v", st.Mtim, err)
	}
	// The directory was there before: its time stays as if nothing had been written.
	if err := unix.Fstatat(int(root.Fd()), "etc", &etc, 0); err != nil || etc.Mtim.Sec != 0 {
		t.Errorf("mtime of /etc %v: %v", etc.Mtim, err)
	}
	lower, err := w.env.Store.Overlay().Lowers(r.Image.ChainID())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"user.note": "hello", "security.capability": string(capability)} {
		buf := make([]byte, 100)
		n, err := unix.Getxattr(filepath.Join(lower[0], "etc/f"), name, buf)
		if err != nil || string(buf[:n]) != want {
			t.Errorf("%s is %q: %v", name, buf[:max(n, 0)], err)
		}
	}
}

// TestCopyReplaces checks what may be written over what.
func TestCopyReplaces(t *testing.T) {
	w := newWorld(t)
	w.put("f", "new")
	w.put("d/f", "new")
	w.put("d/lnk/app/x", "through the link")
	w.build("FROM busybox\nRUN echo old > /f && ln -s /f /d-link\nCOPY f /d-link\nRUN cat /f; test -L /d-link && echo a link\n")
	if got := w.output(); got != "newa link\n" {
		t.Errorf("a link as the destination: %q", got)
	}
	w.build("FROM busybox\nRUN echo old > /f && mkdir /d && ln -s ../f /d/f\nCOPY d /d\nRUN cat /f; cat /d/f; test ! -L /d/f && echo no link\n")
	if got := w.output(); got != "old\nnewno link\n" {
		t.Errorf("a link below the destination was followed: %q", got)
	}
	w.build("FROM busybox\nCOPY d/ /\nRUN cat /home/app/x; test -L /lnk && echo still a link\n")
	if got := w.output(); got != "through the linkstill a link\n" {
		t.Errorf("a directory onto a link to a directory: %q", got)
	}
	_, err := w.try(t.Context(), "FROM busybox\nCOPY f /x/etc\nRUN rm /x/etc && mkdir /x/etc\nCOPY f /x/etc/\nCOPY d/../f /x/\nRUN mkdir /x/f2\nCOPY f /y/\nCOPY d /y\n", nil)
	if err != nil {
		t.Error(err)
	}
	w.put("etc", "a file")
	if _, err := w.try(t.Context(), "FROM busybox\nCOPY etc f /\n", nil); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("a file over a directory: %v", err)
	}
	if err := unix.Mknod(filepath.Join(w.dir, "socket"), unix.S_IFSOCK|0o600, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := w.try(t.Context(), "FROM busybox\nCOPY socket /\n", nil); !errors.Is(err, errdefs.ErrInvalid) || !strings.Contains(err.Error(), "socket: it is a socket") {
		t.Errorf("a socket: %v", err)
	}
	if _, err := w.try(t.Context(), "FROM busybox\nCOPY . /all/\n", nil); err != nil {
		t.Errorf("a directory with a socket: %v", err)
	}
}

// TestContextCannotBeLeft builds from contexts with links that lead out.
func TestContextCannotBeLeft(t *testing.T) {
	w := newWorld(t)
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("SECRET"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{
		"abs": filepath.Join(outside, "secret"), "rel": "../../../../../.." + filepath.Join(outside, "secret"),
		"dir": outside, "magic": "/proc/self/root" + outside, "loop": "loop",
	} {
		if err := os.Symlink(target, filepath.Join(w.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, src := range []string{"abs", "rel", "dir/secret", "dir/*", "dir", "magic/secret", "loop"} {
		r, err := w.try(t.Context(), "FROM busybox\nCOPY "+src+" /got/\n", nil)
		if err == nil && len(w.layer(r.Image)) > 0 {
			t.Errorf("COPY %s got %q", src, w.layer(r.Image))
		}
	}
}

// TestDestinationCannotBeLeft copies, and makes working directories, through
// links in the image that lead out of it (CVE-2026-55686).
func TestDestinationCannotBeLeft(t *testing.T) {
	w := newWorld(t)
	outside := t.TempDir()
	w.put("f", "x")
	w.addBase("evil", []file{
		{name: "abs", link: outside},
		{name: "rel", link: "../../../../../../.." + outside},
		{name: "magic", link: "/proc/self/root" + outside},
		{name: "file", link: outside + "/made"},
		{name: "etc/", mode: 0o755},
		{name: "etc/passwd", link: "/../../../../../../etc/shadow"},
	})
	w.build("FROM evil\nCOPY f /abs/\nCOPY f /rel/\nCOPY f /magic/\nCOPY f /file\nWORKDIR /abs/w\nWORKDIR /rel/v\n")
	entries, err := os.ReadDir(outside)
	if err != nil || len(entries) > 0 {
		t.Errorf("outside: %v %v", entries, err)
	}
	if _, err := w.try(t.Context(), "FROM evil\nCOPY --chown=root:shadow f /\n", nil); err == nil {
		t.Error("--chown found a group of the host")
	}
}

// TestAddArchive checks the unpacking of local archives, and that what is none
// is copied.
func TestAddArchive(t *testing.T) {
	w := newWorld(t)
	plain := tarOf(t, []file{
		{name: "d/", mode: 0o700, uid: 5},
		{name: "d/f", data: "1", mode: 0o640, uid: 6},
		{name: "l", link: "d/f"},
		{name: "deep/er/file", data: "2", mode: 0o600},
	})
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(plain)
	z.Close()
	w.put("a.tar", string(plain))
	w.put("a.tgz", packed.String())
	w.put("text.gz", "not an archive at all, whatever it is called")
	var zipped bytes.Buffer
	z = gzip.NewWriter(&zipped)
	z.Write([]byte("just compressed text"))
	z.Close()
	w.put("only.gz", zipped.String())
	w.put("small", "x")
	w.put("a.xz", "\xfd7zXZ\x00 and so on")
	want := []string{"o/ 0755 0:0", "o/d/ 0700 5:5", "o/d/f 0640 6:6", "o/deep/ 0755 0:0", "o/deep/er/ 0755 0:0", "o/deep/er/file 0600 0:0", "o/l 0777 0:0 -> d/f"}
	for text, want := range map[string][]string{
		"ADD a.tar /o":                  want,
		"ADD a.tgz /o/":                 want,
		"ADD --chown=9:9 a.tgz /o/":     {"o/ 0755 9:9", "o/d/ 0700 9:9", "o/d/f 0640 9:9", "o/deep/ 0755 9:9", "o/deep/er/ 0755 9:9", "o/deep/er/file 0600 9:9", "o/l 0777 9:9 -> d/f"},
		"COPY a.tgz /o/":                {"o/ 0755 0:0", "o/a.tgz 0644 0:0"},
		"ADD --unpack=false a.tgz /o/":  {"o/ 0755 0:0", "o/a.tgz 0644 0:0"},
		"ADD text.gz only.gz small /o/": {"o/ 0755 0:0", "o/only.gz 0644 0:0", "o/small 0644 0:0", "o/text.gz 0644 0:0"},
	} {
		r := w.build("FROM busybox\n" + text + "\n")
		if d := cmp.Diff(want, w.layer(r.Image)); d != "" {
			t.Errorf("%s: %s", text, d)
		}
	}
	if _, err := w.try(t.Context(), "FROM busybox\nADD a.xz /\n", nil); !errors.Is(err, errdefs.ErrUnsupported) {
		t.Errorf("xz: %v", err)
	}
	w.put("cut.tar", string(plain[:len(plain)-2000]))
	if _, err := w.try(t.Context(), "FROM busybox\nADD cut.tar /\n", nil); !errors.Is(err, errdefs.ErrCorrupt) {
		t.Errorf("an archive cut short: %v", err)
	}
	w.put("link.tar", string(tarOf(t, []file{{name: "a", data: "x", mode: 0o644}, {name: "b", hard: "nosuch"}})))
	if _, err := w.try(t.Context(), "FROM busybox\nADD link.tar /\n", nil); !errors.Is(err, errdefs.ErrInvalid) || !strings.Contains(err.Error(), `b: hard link to "nosuch"`) {
		t.Errorf("a hard link to nothing: %v", err)
	}
}

// TestAddArchiveCannotEscape unpacks archives that try to write elsewhere
// (CVE-2020-10696).
func TestAddArchiveCannotEscape(t *testing.T) {
	w := newWorld(t)
	outside := t.TempDir()
	w.put("evil.tar", string(tarOf(t, []file{
		{name: "../../../../../.." + outside + "/dots", data: "x", mode: 0o644},
		{name: outside + "/absolute", data: "x", mode: 0o644},
		{name: "link", link: outside},
		{name: "link/through", data: "x", mode: 0o644},
		{name: "up", link: "../../../../../../../.." + outside},
		{name: "up/through", data: "x", mode: 0o644},
	})))
	r := w.build("FROM busybox\nADD evil.tar /o/\n")
	if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
		t.Errorf("outside: %v %v", entries, err)
	}
	if got := strings.Join(w.layer(r.Image), "\n"); !strings.Contains(got, "through 0644") {
		t.Errorf("entries are missing: %s", got)
	}
}

// TestDockerignore checks patterns against COPY . of a small project.
func TestDockerignore(t *testing.T) {
	w := newWorld(t)
	for _, f := range []string{"keep", "drop.log", "node_modules/x/y", "src/a.go", "src/a_test.go", "docs/readme.md", "docs/other.txt", ".git/config", "tmp/kept"} {
		w.put(f, "x")
	}
	w.put(".dockerignore", "# comment\n*.log\nnode_modules\n**/*_test.go\ndocs\n!docs/readme.md\n/.git/\n.dockerignore\ntmp/*\n")
	r := w.build("FROM busybox\nCOPY . /s\n")
	want := []string{"s/ 0755 0:0", "s/docs/ 0755 0:0", "s/docs/readme.md 0644 0:0", "s/keep 0644 0:0", "s/src/ 0755 0:0", "s/src/a.go 0644 0:0", "s/tmp/ 0755 0:0"}
	if d := cmp.Diff(want, withoutRootMode(w.layer(r.Image))); d != "" {
		t.Error(d)
	}
	w.put(".dockerignore", "*\n!src\nsrc/*_test.go\n")
	r = w.build("FROM busybox\nCOPY . /s\nCOPY src/*.go /t/\n")
	if d := cmp.Diff([]string{"s/ 0755 0:0", "s/src/ 0755 0:0", "s/src/a.go 0644 0:0"}, withoutRootMode(w.layerAt(r.Image, 1))); d != "" {
		t.Error(d)
	}
	// An ignored file does not make a miss.
	w.put("drop.log", "changed")
	if again := w.build("FROM busybox\nCOPY . /s\nCOPY src/*.go /t/\n"); again.Ran != 0 {
		t.Errorf("ran %d: %q", again.Ran, w.misses())
	}
}

// withoutRootMode makes lists comparable: the mode of the test's temporary
// directory depends on the umask.
func withoutRootMode(list []string) []string {
	for i, l := range list {
		if strings.HasPrefix(l, "s/ ") {
			list[i] = "s/ 0755 0:0"
		}
	}
	return list
}
