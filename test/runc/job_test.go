package main

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// runJob runs a shell script as a job in a view, as an ordinary user if features
// are given, and returns what it prints.
func runJob(t *testing.T, view, features, script string, perTest time.Duration) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes namespaces and control groups")
	}
	work := t.TempDir()
	for dir := work; dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"suite", "tmp", "aside", "home"} {
		if err := os.Mkdir(filepath.Join(work, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	groups, err := planSandbox("box-runc-suite-test-"+filepath.Base(filepath.Dir(work)), view)
	if err == nil {
		err = groups.make()
	}
	if err != nil {
		t.Fatal(err)
	}
	s := session{options: options{perFile: time.Minute, perTest: perTest}}
	out, err := s.start(t.Context(), job{
		View: view, Work: work, Suite: work, Dir: "/", Cgroups: groups, Features: features,
		Args: []string{"sh", "-ec", script}, Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"},
	})
	if removeErr := (leavings{Cgroups: groups}).remove(); removeErr != nil {
		t.Error(removeErr)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, h := range groups.Hierarchies {
		if _, err := os.Stat(h.Own); err == nil {
			t.Errorf("left behind: %s", h.Own)
		}
	}
	return string(out)
}

func TestJobHasItsOwnWorld(t *testing.T) {
	out := runJob(t, "v2", "", `
		readlink /proc/self/ns/pid >/dev/null
		test $(stat -f -c %t /sys/fs/cgroup) = 63677270
		grep -c . /sys/fs/cgroup/cgroup.procs >/dev/null
		grep ^0: /proc/self/cgroup
		mkdir /sys/fs/cgroup/below
		echo x >/etc/box-runc-suite-test
		tty -s && echo terminal
		: </dev/tty && echo controls
		ip -o link show up | cut -d: -f2
		ls /proc | grep -c '^[0-9]*$' | grep -E '^[1-9]$' >/dev/null && echo alone
	`, time.Minute)
	if want := "0::/\nterminal\ncontrols\n lo\nalone\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	if _, err := os.Stat("/etc/box-runc-suite-test"); err == nil {
		t.Error("a job wrote to the host's /etc")
	}
}

func TestJobWithoutRoot(t *testing.T) {
	out := runJob(t, "v2", "idmap+cgroup", `
		id -un
		grep ^rootless: /etc/subuid
		echo $ROOTLESS_FEATURES
		mkdir /sys/fs/cgroup/runc-cgroups-integration-test/mine
		echo 0 >/sys/fs/cgroup/runc-cgroups-integration-test/mine/cgroup.procs
		cat /proc/self/cgroup | grep ^0:
	`, time.Minute)
	if want := "rootless\nrootless:100000:65536\nidmap+cgroup+\n0::/runc-cgroups-integration-test/mine\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
}

// Bats' process for a test is known by its name; what it waits for hangs here, and so
// does an orphan that would keep the output open.
func TestHangingTestIsEnded(t *testing.T) {
	out := runJob(t, "host", "", `
		(sleep 1000 &)
		bash -c 'sleep 1000; true' bats-exec-test || echo ended
	`, 300*time.Millisecond)
	if out != "Killed\nended\n" && out != "ended\n" {
		t.Errorf("got %q", out)
	}
}

// Tests that give a device back say `netns 1`, which has to be where they are.
func TestProcessOneIsInTheJobsNetwork(t *testing.T) {
	for _, view := range viewNames {
		flags := jobFlags(view)
		own := flags&syscall.CLONE_NEWNET != 0
		if own != (flags&syscall.CLONE_NEWPID != 0) {
			t.Errorf("%s: flags %#x: a network of its own, and the machine's process 1, or the other way about", view, flags)
		}
		if own == (view == viewSystemd) {
			t.Errorf("%s: a network namespace of its own: %v", view, own)
		}
	}
}

func TestCommands(t *testing.T) {
	s := &session{options: options{filter: "a b"}}
	mounted := suite{dir: "/w/suite"}
	dir, args := s.command(mounted, "kill")
	want := []string{"bats", "--tap", "-f", "a b", "/w/suite/runc-" + runcVersion + "/tests/integration/kill.bats"}
	if dir != "/w/suite" || !reflect.DeepEqual(args, want) {
		t.Errorf("bats: %s %q", dir, args)
	}
	dir, args = s.command(mounted, "oci-hostname")
	if dir != mounted.tools() || !reflect.DeepEqual(args, []string{mounted.tools() + "/bin/hostname"}) {
		t.Errorf("runtime-tools: %s %q", dir, args)
	}
}

func TestFilesAreFoundByName(t *testing.T) {
	s := suite{dir: t.TempDir()}
	for _, path := range []string{s.batsDir() + "/kill.bats", s.batsDir() + "/exec.bats", s.tools() + "/bin/hostname"} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all, err := s.files(nil)
	if want := []string{"exec", "kill", "oci-hostname"}; err != nil || !reflect.DeepEqual(all, want) {
		t.Errorf("all: %q, %v", all, err)
	}
	some, err := s.files([]string{"tests/integration/kill.bats", "oci-hostname"})
	if want := []string{"kill", "oci-hostname"}; err != nil || !reflect.DeepEqual(some, want) {
		t.Errorf("some: %q, %v", some, err)
	}
	if _, err := s.files([]string{"nosuch"}); err == nil || !strings.Contains(err.Error(), "exec kill") {
		t.Errorf("an unknown file: %v", err)
	}
}

func TestFeaturesOfARunWithoutRoot(t *testing.T) {
	none := job{Work: "/w", Features: "none"}.rootlessEnv()
	if !slices.Contains(none, "ROOTLESS_FEATURES=") || len(none) != 2 {
		t.Errorf("none: %q", none)
	}
	both := job{Work: "/w", Features: "idmap+cgroup"}.rootlessEnv()
	for _, want := range []string{"ROOTLESS_FEATURES=idmap+cgroup+", "ROOTLESS_UIDMAP_START=100000", "ROOTLESS_AUX_DIR=/w/aux"} {
		if !slices.Contains(both, want) {
			t.Errorf("both: no %s in %q", want, both)
		}
	}
	if (job{}).credentials() != nil {
		t.Error("a job with root gets other credentials")
	}
}
