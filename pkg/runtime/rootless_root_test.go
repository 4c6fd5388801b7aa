package runtime

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"box/internal/testkit"
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
	r := b.runAs(who)
	if want := "0\n 0 61000 1\nmade\n"; r.code != 0 || r.out != want {
		t.Errorf("run gave %d, %q, %s; want %q", r.code, r.out, r.err, want)
	}
}

// TestInsideUserNamespace: podman without root calls the runtime as root of a user namespace,
// and asks for no other. There are no nodes to be made there, but those of the host are had.
func TestInsideUserNamespace(t *testing.T) {
	const uid = 61000
	b := newBench(t, "sh", "-c", "echo x >/dev/null && busybox stat -c %t:%T /dev/null && id -u")
	gen.Rootless(b.spec, uid, uid)
	gen.WithoutNamespace(b.spec, specs.UserNamespace)
	b.spec.Linux.UIDMappings, b.spec.Linux.GIDMappings = nil, nil
	b.save()
	b.asUser(uid)
	if err := os.Chmod(filepath.Dir(b.binary), 0o755); err != nil {
		t.Fatal(err)
	}
	one := []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
	r := b.runAs(&syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS, UidMappings: one, GidMappings: one,
		Credential: &syscall.Credential{NoSetGroups: true},
	})
	if want := "1:3\n0\n"; r.code != 0 || r.out != want {
		t.Errorf("run gave %d, %q, %s; want %q", r.code, r.out, r.err, want)
	}
}

// tryAs calls box-runtime as somebody; runAs runs the container in the foreground, where
// users may make user namespaces at all.
func (b *bench) tryAs(who *syscall.SysProcAttr, args ...string) result {
	b.t.Helper()
	cmd := b.command(args...)
	cmd.SysProcAttr = who
	return finish(b.t, cmd)
}

func (b *bench) runAs(who *syscall.SysProcAttr, flags ...string) result {
	b.t.Helper()
	r := b.tryAs(who, append(append([]string{"run"}, flags...), b.id)...)
	if r.code != 0 {
		others := exec.Command("unshare", "--user", "true")
		others.SysProcAttr = who
		if out, err := others.CombinedOutput(); err != nil {
			b.t.Skipf("this host lets users make no user namespaces: %v, %s%s", err, out, r.err)
		}
	}
	return r
}

// rootless makes the container one of an ordinary user.
func (b *bench) rootless(uid uint32) *syscall.SysProcAttr {
	gen.Rootless(b.spec, uid, uid)
	b.save()
	return b.asUser(uid)
}

// TestOrdinaryUserJoins: the rights over a pid namespace come with the user namespace that
// owns it; both are joined, by a further container and by hooks.
func TestOrdinaryUserJoins(t *testing.T) {
	const uid = 61001 // nobody's
	first := newBench(t, "sleep", "1000")
	out := first.bundle + "/hook"
	if err := os.WriteFile(out, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	first.spec.Hooks = &specs.Hooks{
		CreateContainer: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "readlink /proc/self/ns/user >" + out}}},
		StartContainer:  []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "test $(id -u) = 0"}}},
	}
	who := first.rootless(uid)
	if err := os.Chmod(filepath.Dir(first.binary), 0o755); err != nil {
		t.Fatal(err)
	}
	if r := first.runAs(who, "--detach"); r.code != 0 {
		t.Fatal(r.err)
	}
	defer first.tryAs(who, "delete", "--force", first.id)
	pid := first.state().Pid
	inside, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/user")
	hook, readErr := os.ReadFile(out)
	if err != nil || readErr != nil || string(hook) != inside+"\n" {
		t.Errorf("the hook's user namespace: %q, %v; the container's: %q, %v", hook, readErr, inside, err)
	}

	second := newBench(t, "sh", "-c", "busybox ps -o args | busybox grep -c '^sleep 1000'")
	second.id = first.id + "-second"
	gen.Rootless(second.spec, uid, uid)
	second.join(specs.UserNamespace, pid, "user")
	second.join(specs.PIDNamespace, pid, "pid")
	second.spec.Linux.UIDMappings, second.spec.Linux.GIDMappings = nil, nil
	second.save()
	if r := second.runAs(second.asUser(uid)); r.code != 0 || r.out != "1\n" {
		t.Errorf("run in the other's namespaces: %d, %q, %s", r.code, r.out, r.err)
	}
}

// TestOrdinaryUserScores: what an ordinary user has join a container has its oom_score_adj,
// although to the user those files of a program that cannot be traced are closed.
func TestOrdinaryUserScores(t *testing.T) {
	const uid = 61002 // nobody's
	b := newBench(t, "sleep", "1000")
	score := 500
	b.spec.Process.OOMScoreAdj = &score
	hook := func(file string) []specs.Hook {
		return []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "cat /proc/self/oom_score_adj > " + file}}}
	}
	b.spec.Hooks = &specs.Hooks{CreateContainer: hook("tmp/create"), StartContainer: hook("/tmp/start")}
	who := b.rootless(uid)
	if err := os.Chmod(filepath.Dir(b.binary), 0o755); err != nil {
		t.Fatal(err)
	}
	if r := b.runAs(who, "--detach"); r.code != 0 {
		t.Fatal(r.err)
	}
	defer b.tryAs(who, "delete", "--force", b.id)
	for _, file := range []string{"create", "start"} {
		if got := testkit.Text(t, b.bundle+"/rootfs/tmp/"+file); got != "500\n" {
			t.Errorf("the hook of %s has %q", file, got)
		}
	}
	if r := b.tryAs(who, "exec", b.id, "cat", "/proc/self/oom_score_adj"); r.code != 0 || r.out != "500\n" {
		t.Errorf("exec: %+v", r)
	}
}
