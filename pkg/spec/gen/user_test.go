package gen

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
)

const (
	testPasswd = `# a comment
root:x:0:0:root:/root:/bin/sh
+nis::::::
short:x:7
app:x:1000:1001:An app:/home/app:/bin/sh
1000:x:0:0:a name that is a number:/root:/bin/sh
0x0:x:77:77::/hex:/bin/sh
relative:x:5:5::home:/bin/sh
overflow:x:4294967296:0::/:/bin/sh
large:x:2147483648:0::/:/bin/sh
gidoverflow:x:8:4294967296::/:/bin/sh
letters:x:abc:0::/:/bin/sh
last:x:65534:65534::/nonexistent:/bin/false`
	testGroup = `root:x:0:root
staff:x:50:app,other
primary:x:1001:app
disk:x:6:other,app
broken:x:abc:app
5:x:0:
numbergroup:x:55:1000
`
)

// image makes an image root with the given account files.
func image(t *testing.T, passwd, group string) *os.File {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"passwd": passwd, "group": group} {
		if err := os.WriteFile(filepath.Join(dir, "etc", name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return openRoot(t, dir)
}

func openRoot(t *testing.T, dir string) *os.File {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	root := os.NewFile(uintptr(fd), dir)
	t.Cleanup(func() { root.Close() })
	return root
}

func TestResolveUser(t *testing.T) {
	root := image(t, testPasswd, testGroup)
	for _, c := range []struct {
		user string
		uid  uint32
		gids []uint32
		home string
	}{
		{"", 0, []uint32{0}, "/root"},
		{":", 0, []uint32{0}, "/root"},
		{"root", 0, []uint32{0}, "/root"},
		{"0", 0, []uint32{0}, "/root"},
		{"000", 0, []uint32{0}, "/root"},
		{"app", 1000, []uint32{1001, 50, 6}, "/home/app"},
		// By number, whatever the image calls so (CVE-2016-3697).
		{"1000", 1000, []uint32{1001, 50, 6}, "/home/app"},
		{"app:", 1000, []uint32{1001, 50, 6}, "/home/app"},
		{"app:staff", 1000, []uint32{50}, "/home/app"},
		{"app:7", 1000, []uint32{7}, "/home/app"},
		{"app:5", 1000, []uint32{5}, "/home/app"},
		{":staff", 0, []uint32{50}, "/root"},
		{"4711", 4711, []uint32{0}, "/"},
		{"4711:4712", 4711, []uint32{4712}, "/"},
		{"2147483647", 2147483647, []uint32{0}, "/"},
		{"0x0", 77, []uint32{77}, "/hex"},
		{"relative", 5, []uint32{5}, "/"},
		{"last", 65534, []uint32{65534}, "/nonexistent"},
	} {
		u, home, err := ResolveUser(root, c.user)
		if err != nil {
			t.Errorf("%q: %v", c.user, err)
			continue
		}
		if u.UID != c.uid || u.GID != c.gids[0] || !slices.Equal(u.AdditionalGids, c.gids) || home != c.home {
			t.Errorf("%q: %+v, %s; want %d, %v, %s", c.user, u, home, c.uid, c.gids, c.home)
		}
	}
}

func TestResolveUserRefuses(t *testing.T) {
	root := image(t, testPasswd, testGroup)
	for user, want := range map[string]struct {
		class error
		text  string
	}{
		"nobody":                 {errdefs.ErrNotFound, `find user "nobody": no such name in the image's /etc/passwd`},
		"app:nogroup":            {errdefs.ErrNotFound, `find group "nogroup": no such name in the image's /etc/group`},
		"4294967296":             {errdefs.ErrInvalid, `parse user id "4294967296": not a number from 0 to 2147483647`},
		"2147483648":             {errdefs.ErrInvalid, `parse user id "2147483648": not a number from 0 to 2147483647`},
		"99999999999999999999":   {errdefs.ErrInvalid, `parse user id "99999999999999999999": not a number from 0 to 2147483647`},
		"0:4294967296":           {errdefs.ErrInvalid, `parse group id "4294967296": not a number from 0 to 2147483647`},
		"-1":                     {errdefs.ErrInvalid, `parse user "-1": want user[:group], by name or number`},
		"+0":                     {errdefs.ErrInvalid, `parse user "+0": want user[:group], by name or number`},
		"0:-1":                   {errdefs.ErrInvalid, `parse user "0:-1": want user[:group], by name or number`},
		"a:b:c":                  {errdefs.ErrInvalid, `parse user "a:b:c": want user[:group], by name or number`},
		"root\n":                 {errdefs.ErrInvalid, `parse user "root\n": want user[:group], by name or number`},
		" root":                  {errdefs.ErrNotFound, `find user " root": no such name in the image's /etc/passwd`},
		"overflow":               {errdefs.ErrInvalid, `parse user id "4294967296": not a number from 0 to 2147483647`},
		"large":                  {errdefs.ErrInvalid, `parse user id "2147483648": not a number from 0 to 2147483647`},
		"gidoverflow":            {errdefs.ErrInvalid, `parse group id "4294967296": not a number from 0 to 2147483647`},
		"letters":                {errdefs.ErrNotFound, `find user "letters": no such name in the image's /etc/passwd`},
		"# a comment":            {errdefs.ErrNotFound, `find user "# a comment": no such name in the image's /etc/passwd`},
		strings.Repeat("x", 100): {errdefs.ErrNotFound, `find user "` + strings.Repeat("x", 100) + `": no such name in the image's /etc/passwd`},
	} {
		_, _, err := ResolveUser(root, user)
		if !errors.Is(err, want.class) || err.Error() != want.text {
			t.Errorf("%q: %v\nwant %s", user, err, want.text)
		}
	}
}

// TestResolveUserWithoutFiles: images made from scratch have no accounts.
func TestResolveUserWithoutFiles(t *testing.T) {
	for name, prepare := range map[string]func(dir string) error{
		"empty":       func(string) error { return nil },
		"etc is file": func(dir string) error { return os.WriteFile(filepath.Join(dir, "etc"), nil, 0o600) },
		"dangling": func(dir string) error {
			return errors.Join(os.Mkdir(filepath.Join(dir, "etc"), 0o755), os.Symlink("/nowhere", filepath.Join(dir, "etc/passwd")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := prepare(dir); err != nil {
				t.Fatal(err)
			}
			root := openRoot(t, dir)
			if u, home, err := ResolveUser(root, "12:34"); err != nil || u.UID != 12 || u.GID != 34 || home != "/" {
				t.Errorf("%+v, %s, %v", u, home, err)
			}
			if _, _, err := ResolveUser(root, "app"); !errors.Is(err, errdefs.ErrNotFound) {
				t.Errorf("a name: %v", err)
			}
		})
	}
}

// TestResolveUserHostileFiles: what an image may put in the place of passwd
// (CVE-2026-47262, CVE-2024-9676). Each must be refused at once.
func TestResolveUserHostileFiles(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		make func(path string) error
	}{
		"fifo":      {"not a regular file", func(p string) error { return unix.Mkfifo(p, 0o666) }},
		"directory": {"not a regular file", func(p string) error { return os.Mkdir(p, 0o755) }},
		"device":    {"not a regular file", func(p string) error { return unix.Mknod(p, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))) }},
		"too large": {"larger than 10 MiB", func(p string) error {
			f, err := os.Create(p)
			return errors.Join(err, f.Truncate(1<<40), f.Close())
		}},
		"loop":        {"too many levels of symbolic links", func(p string) error { return os.Symlink("passwd", p) }},
		"magic link":  {"", func(p string) error { return os.Symlink("/proc/self/fd/0", p) }},
		"out by dots": {"", func(p string) error { return os.Symlink("../../../../../../../../etc/passwd", p) }},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "etc"), 0o755); err != nil {
				t.Fatal(err)
			}
			err := c.make(filepath.Join(dir, "etc/passwd"))
			if errors.Is(err, unix.EPERM) {
				t.Skip("needs root: ", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = ResolveUser(openRoot(t, dir), "root")
			if err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("have %v, want %q", err, c.text)
			}
		})
	}
}

// TestResolveUserAbsoluteLink: NixOS images have an absolute link there, which
// means a file of the image (containerd#12683).
func TestResolveUserAbsoluteLink(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(
		os.MkdirAll(filepath.Join(dir, "nix/store"), 0o755),
		os.Mkdir(filepath.Join(dir, "etc"), 0o755),
		os.WriteFile(filepath.Join(dir, "nix/store/passwd"), []byte("app:x:9:9::/app:/bin/sh\n"), 0o600),
		os.Symlink("/nix/store/passwd", filepath.Join(dir, "etc/passwd")),
	); err != nil {
		t.Fatal(err)
	}
	if u, home, err := ResolveUser(openRoot(t, dir), "app"); err != nil || u.UID != 9 || home != "/app" {
		t.Errorf("%+v, %s, %v", u, home, err)
	}
}

// FuzzResolveUser looks for forms that get a number wrong: whatever is made of
// decimal digits is that number, or an error.
func FuzzResolveUser(f *testing.F) {
	for _, s := range []string{"", ":", "1000", "app:staff", "4294967296", "-1", "0x0", "+0", "a:b:c", "00:00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, user string) {
		u, _, err := ResolveUser(image(t, testPasswd, testGroup), user)
		if err != nil {
			return
		}
		if u.UID > maxID || u.GID > maxID || len(u.AdditionalGids) == 0 || u.AdditionalGids[0] != u.GID {
			t.Errorf("%q: %+v", user, u)
		}
		who, _, _ := strings.Cut(user, ":")
		if digits := strings.TrimLeft(who, "0"); isNumber(who) && digits != strings.TrimLeft(strconv.FormatUint(uint64(u.UID), 10), "0") {
			t.Errorf("%q became user %d", user, u.UID)
		}
	})
}
