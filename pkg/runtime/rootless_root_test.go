package runtime

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"box/pkg/spec/gen"
)

// asUser gives the bundle and the state to an ordinary user.
func (b *bench) asUser(uid uint32) *syscall.SysProcAttr {
	b.t.Helper()
	dir := filepath.Dir(b.bundle)
	for up := dir; up != "/tmp" && up != "/"; up = filepath.Dir(up) {
		if err := os.Chmod(up, 0o755); err != nil {
			b.t.Fatal(err)
		}
	}
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(uid), int(uid))
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
}

// TestOrdinaryUser: an ordinary user runs what `spec --rootless` describes.
func TestOrdinaryUser(t *testing.T) {
	const uid = 61000 // nobody's
	b := newBench(t, "sh", "-c", "id -u; busybox cat /proc/self/uid_map | busybox tr -s ' '; busybox touch /tmp/x && echo made")
	gen.Rootless(b.spec, uid, uid)
	b.save()
	who := b.asUser(uid)
	if err := os.Chmod(filepath.Dir(b.binary), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := b.command("run", b.id)
	cmd.SysProcAttr = who
	r := finish(t, cmd)
	if r.code != 0 && strings.Contains(r.err, "operation not permitted") {
		t.Skip("this host lets users make no user namespaces: ", r.err)
	}
	if want := "0\n 0 61000 1\nmade\n"; r.code != 0 || r.out != want {
		t.Errorf("run gave %d, %q, %s; want %q", r.code, r.out, r.err, want)
	}
}
