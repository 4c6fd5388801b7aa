package security

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// TestRootOfEveryKind: whichever way the container came by its root directory (without
// pivot_root, in a mount namespace that others use), neither its command nor what is
// executed in it later sees the host's.
func TestRootOfEveryKind(t *testing.T) {
	for name, prepare := range map[string]func(*box) []string{
		"no pivot": func(*box) []string { return []string{"--no-pivot"} },
		"mount namespace of another": func(b *box) []string {
			b.joinMounts()
			return nil
		},
		"user namespace without pivot": func(b *box) []string { b.userNamespace(); return []string{"--no-pivot"} },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, "wait")
			secret := b.dir + "/secret"
			if err := os.WriteFile(secret, []byte("of the host"), 0o644); err != nil {
				t.Fatal(err)
			}
			flags := prepare(b)
			b.save()
			b.do(append(append([]string{"run", "--detach"}, flags...), b.id)...)
			t.Cleanup(func() { b.do("delete", "--force", b.id) })
			found := decode[map[string]struct{ Exists bool }](t, b.do("exec", b.id, "/bin/probe", "reach", secret, "/bin/probe", "/etc/debian_version"))
			if found[secret].Exists || found["/etc/debian_version"].Exists || !found["/bin/probe"].Exists {
				t.Errorf("exec sees %+v", found)
			}
		})
	}
}

// joinMounts lets the container live in a mount namespace that is a copy of the host's.
func (b *box) joinMounts() {
	b.t.Helper()
	holder := exec.Command(programs.probe, "wait")
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	if err := holder.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = holder.Process.Kill(); _ = holder.Wait() })
	for i := range b.spec.Linux.Namespaces {
		if ns := &b.spec.Linux.Namespaces[i]; ns.Type == specs.MountNamespace {
			ns.Path = fmt.Sprintf("/proc/%d/ns/mnt", holder.Process.Pid)
		}
	}
}

// TestFlagsStayBelowTheContainer: what flags of exec and update name lies below the
// container's control group.
func TestFlagsStayBelowTheContainer(t *testing.T) {
	b := newBox(t, "wait")
	b.background()
	for _, path := range []string{"..", "../..", "a/../..", "/../x", "a/../../" + b.id + "x", "pids:../", ":..", "\n"} {
		if r := b.try("exec", "--cgroup", path, b.id, "/bin/probe", "true"); r.code == 0 {
			t.Errorf("exec --cgroup %q is carried out", path)
		}
	}
	for _, text := range []string{
		`{"unified":{"../cgroup.procs":"1"}}`, `{"unified":{"cgroup.procs":"1"}}`, `{"unified":{"memory.max\n":"1"}}`, `{"unified":{"cgroup.kill":"1"}}`,
		`{"unified":{"/memory.max":"1"}}`, `{"unified":{"":"1"}}`, `{"hugepageLimits":[{"pageSize":"../2MB","limit":1}]}`,
		`{"pids":{"limit":1}} {"x":1}`, `[]`, `null`, `{"cpu":{"cpus":"0\n1"}}`, `{"rdma":{"../x":{"hcaHandles":1}}}`,
	} {
		cmd := b.command("update", "--resources", "-", b.id)
		cmd.Stdin = strings.NewReader(text)
		if r := finish(t, cmd); r.code == 0 && text != "null" {
			t.Errorf("update %s is carried out", text)
		}
	}
	if s := decode[specs.State](t, b.do("state", b.id)); s.Status != "running" {
		t.Errorf("the container is %s after all that", s.Status)
	}
}

// TestProcessFiles: what exec --process is given is read once and wholly, from wherever.
func TestProcessFiles(t *testing.T) {
	b := newBox(t, "wait")
	b.background()
	for _, text := range []string{
		`{}`, `{"args":["/bin/probe","self"],"cwd":"."}`, `{"args":["/bin/probe","self"],"cwd":"/proc/self/fd/0"}`,
		`{"args":["/bin/probe","self"],"cwd":"/","user":{"uid":4294967295}}`, `{"args":["/bin/probe","self"],"cwd":"/","user":{"uid":-1}}`,
		`{"args":["/bin/probe","self"],"cwd":"/","env":["A=1\u0000B=2"]}`, `{"args":["/bin/probe\u0000x","self"],"cwd":"/"}`,
		`{"args":["/bin/probe","self"],"cwd":"/","rlimits":[{"type":"../x","soft":1,"hard":1}]}`,
		`{"args":["/bin/probe","self"],"cwd":"/","oomScoreAdj":-1001}`,
		`{"args":["/bin/probe","self"],"cwd":"/","apparmorProfile":"x\ny"}`, `{"args":["/bin/probe","self"],"cwd":"/","selinuxLabel":"x\ny"}`,
	} {
		file := b.dir + "/process.json"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if r := b.try("exec", "--process", file, b.id); r.code == 0 {
			t.Errorf("%s is carried out: %s", text, r.out)
		}
	}
	cmd := b.command("exec", "--process", "/dev/stdin", b.id)
	cmd.Stdin = strings.NewReader(`{"args":["/bin/probe","self"],"cwd":"/","env":["PATH=/bin"],"user":{"uid":5,"gid":6}}`)
	s := decode[self](t, finish(t, cmd).out)
	if s.UID != 5 || s.GID != 6 || len(s.Groups) != 0 || len(s.FDs) != 3 || !slices.Contains(s.Env, "PATH=/bin") {
		t.Errorf("%+v", s)
	}
	if s.Status["CapEff"] != strings.Repeat("0", 16) {
		t.Errorf("user 5 has capabilities %s", s.Status["CapEff"])
	}
}
