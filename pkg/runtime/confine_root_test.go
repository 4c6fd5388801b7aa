package runtime

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"box/pkg/label"
	"box/pkg/resctrl"
)

// A container has one session keyring, which processes that join it find; without a new
// one, they all keep the caller's.
func TestSessionKeyring(t *testing.T) {
	b := newBench(t, "sleep", "1000")
	b.spec.Linux.MaskedPaths = nil // it masks /proc/keys
	b.save()
	t.Cleanup(func() { b.try("delete", "--force", b.id) })
	for _, c := range []struct {
		flags []string
		want  int
	}{{[]string{"--no-new-keyring"}, 0}, {nil, 1}} { // in this order: a dead keyring is in the list for a while
		b.do(append(append([]string{"run", "-d"}, c.flags...), b.id)...)
		if keys := b.do("exec", b.id, "cat", "/proc/keys"); strings.Count(keys, "_ses."+b.id+":") != c.want {
			t.Errorf("run %v: want %d keyrings of the container:\n%s", c.flags, c.want, keys)
		}
		b.do("delete", "--force", b.id)
	}
}

// Confinement by a module that the kernel does not have is refused, not skipped; and
// "unconfined" asks for nothing.
func TestModulesThatAreNotThere(t *testing.T) {
	if label.Look() != (label.Host{}) {
		t.Skip("this kernel has security modules")
	}
	b := newBench(t, "sleep", "1000")
	b.spec.Process.ApparmorProfile = "docker-default"
	if r := b.run(); r.code != 1 || !strings.Contains(r.err, "apparmor: config provided but apparmor not supported") {
		t.Errorf("%+v", r)
	}
	b.spec.Process.ApparmorProfile, b.spec.Process.SelinuxLabel = "", "u:r:t:s0"
	if r := b.run(); r.code != 1 || !strings.Contains(r.err, "selinux label is specified in config, but selinux is disabled or not supported") {
		t.Errorf("%+v", r)
	}
	b.spec.Process.SelinuxLabel, b.spec.Linux.MountLabel = "", "u:r:t:s0"
	if r := b.run(); r.code != 1 || !strings.Contains(r.err, "linux.mountLabel: selinux label is specified in config, but selinux is disabled") {
		t.Errorf("%+v", r)
	}
	b.spec.Process.ApparmorProfile, b.spec.Linux.MountLabel = label.Unconfined, ""
	b.background()
	for _, flag := range []string{"--apparmor=docker-default", "--process-label=u:r:t:s0"} {
		if r := b.try("exec", flag, b.id, "true"); r.code != 255 || !strings.Contains(r.err, "not supported") {
			t.Errorf("exec %s: %+v", flag, r)
		}
	}
}

// Without resctrl a group of it is refused, also to a container that comes back.
func TestResctrlThatIsNotThere(t *testing.T) {
	if resctrl.Root() != "" {
		t.Skip("this host has resctrl")
	}
	b := newBench(t, "true")
	if err := os.Mkdir(b.bundle+"/checkpoint", 0o700); err != nil {
		t.Fatal(err)
	}
	b.spec.Linux.IntelRdt = &specs.LinuxIntelRdt{ClosID: "gold"}
	b.save()
	for _, verb := range []string{"run", "restore"} {
		if r := b.try(verb, b.id); r.code != 1 || !strings.Contains(r.err, "intelRdt is specified in config, but Intel RDT is not enabled") {
			t.Errorf("%s: %+v", verb, r)
		}
	}
}

// A profile confines the container's process and those that join it, in a user namespace
// as well; a process that joins may have another.
func TestAppArmorProfile(t *testing.T) {
	if !label.Look().AppArmor {
		t.Skip("needs a kernel with AppArmor")
	}
	parser, err := exec.LookPath("apparmor_parser")
	if err != nil {
		t.Skip("needs apparmor_parser (package apparmor)")
	}
	const profile = "profile box-test-runtime flags=(attach_disconnected,mediate_deleted) { file, capability, signal, deny /etc/denied r, }"
	for _, flag := range []string{"--replace", "--remove"} {
		load := func() {
			cmd := exec.Command(parser, flag)
			cmd.Stdin = strings.NewReader(profile)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("apparmor_parser %s: %v\n%s", flag, err, out)
			}
		}
		if flag == "--replace" {
			load()
		} else {
			t.Cleanup(load)
		}
	}
	b := newBench(t, "sleep", "1000")
	if err := os.WriteFile(b.bundle+"/rootfs/etc/denied", []byte("secret\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	b.spec.Process.ApparmorProfile = "box-test-runtime"
	check := func(what string, r result, want string) {
		t.Helper()
		if !strings.HasPrefix(r.out, want+"\n") || strings.Contains(r.out, "secret") != (want == label.Unconfined) {
			t.Errorf("%s: %+v, want %s", what, r, want)
		}
	}
	script := []string{"sh", "-c", "cat /proc/self/attr/current; cat /etc/denied"}
	for _, mapped := range []bool{false, true} {
		if mapped {
			b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
			b.spec.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
			b.spec.Linux.GIDMappings = b.spec.Linux.UIDMappings
			dir := filepath.Dir(b.bundle)
			if err := errors.Join(os.Chmod(dir, 0o711), os.Chmod(filepath.Dir(dir), 0o711)); err != nil {
				t.Fatal(err)
			}
			if err := exec.Command("chown", "-R", "100000:100000", b.bundle).Run(); err != nil {
				t.Fatal(err)
			}
		}
		b.spec.Process.Args = script
		check("run", b.run(), "box-test-runtime (enforce)")
		b.spec.Process.Args = []string{"sleep", "1000"}
		b.background()
		check("exec", b.try(append([]string{"exec", b.id}, script...)...), "box-test-runtime (enforce)")
		check("exec --apparmor", b.try(append([]string{"exec", "--apparmor", "unconfined", b.id}, script...)...), label.Unconfined)
		b.do("delete", "--force", b.id)
	}
	b.spec.Process.ApparmorProfile = "box-test-nobody-has-loaded"
	if r := b.run(); r.code != 1 || !strings.Contains(r.err, "apparmor failed to apply profile: ") || !strings.Contains(r.err, "no such file or directory") {
		t.Errorf("a profile that is not loaded: %+v", r)
	}
}

// A label confines the container's process and those that join it, and the label of
// mounts is that of the files in them. The machine that this runs in has the policy of
// pkg/label's tests, and ends with the test.
func TestSELinuxLabels(t *testing.T) {
	if os.Getenv("BOX_TEST_SELINUX") == "" {
		t.Skip("needs a machine of its own with SELinux (BOX_TEST_SELINUX)")
	}
	const script = `set -e
		[ -e /sys/fs/selinux/load ] || mount -t selinuxfs selinuxfs /sys/fs/selinux
		checkpolicy -U allow -c 33 -o "$1" ../label/testdata/selinux.conf
		cat "$1" > /sys/fs/selinux/load`
	if out, err := exec.Command("sh", "-c", script, "sh", filepath.Join(t.TempDir(), "policy")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b := newBench(t, "sleep", "1000")
	b.spec.Process.SelinuxLabel, b.spec.Linux.MountLabel = "box_u:box_r:box_t", "box_u:box_r:box_file_t"
	b.spec.Process.NoNewPrivileges = false // a change of domain is one of privileges; the policy would have to allow it
	b.background()
	out := b.do("exec", b.id, "sh", "-c", "cat /proc/self/attr/current /proc/1/attr/current /proc/self/mounts")
	if strings.Count(out, "box_u:box_r:box_t") != 2 {
		t.Errorf("labels of the processes:\n%q", out)
	}
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) < 4 {
			continue
		}
		switch has := strings.Contains(fields[3], "context=box_u:box_r:box_file_t"); fields[2] {
		case "tmpfs", "devpts":
			if !has {
				t.Errorf("no label: %s", line)
			}
		default:
			if has {
				t.Errorf("a label that cannot be: %s", line)
			}
		}
	}
	if out := b.do("exec", "--process-label", "box_u:box_r:kernel_t", b.id, "cat", "/proc/self/attr/current"); !strings.HasPrefix(out, "box_u:box_r:kernel_t") {
		t.Errorf("exec --process-label: %q", out)
	}
}
