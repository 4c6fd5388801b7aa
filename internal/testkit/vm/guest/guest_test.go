package guest

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"box/internal/testkit/vm"
)

func TestAddEntry(t *testing.T) {
	old := "root:x:0:0::/root:/bin/sh\nother:x:1000:1000::/home/other:/bin/sh\n"
	got := string(addEntry([]byte(old), "tester:*:1000:1000::/home/tester:/bin/sh"))
	if got != "root:x:0:0::/root:/bin/sh\ntester:*:1000:1000::/home/tester:/bin/sh\n" {
		t.Errorf("passwd: %q", got)
	}
	got = string(addEntry([]byte("tester:1:2\nother:100000:65536\n"), "tester:100000:65536"))
	if got != "other:100000:65536\ntester:100000:65536\n" {
		t.Errorf("subuid: %q", got)
	}
}

func TestIsInitOnlyInAMachine(t *testing.T) {
	if IsInit() {
		t.Error("a test is no init")
	}
}

func TestEnvironment(t *testing.T) {
	env := environment(&vm.Job{Mode: vm.User, Env: []string{"A=b"}})
	for _, want := range []string{"HOME=/home/tester", "XDG_RUNTIME_DIR=/run/user/1000", "TMPDIR=/var/tmp", "A=b"} {
		if !slices.Contains(env, want) {
			t.Errorf("%s is not in %q", want, env)
		}
	}
	if env := environment(&vm.Job{Mode: vm.Root}); !slices.Contains(env, "HOME=/root") {
		t.Errorf("root: %q", env)
	}
}

func TestReap(t *testing.T) {
	for script, want := range map[string]int{"exit 3": 3, "kill -TERM $$": 143, "sleep 0 & exit 0": 0} {
		cmd := exec.Command("sh", "-c", script)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if got, err := reap(cmd.Process.Pid); err != nil || got != want {
			t.Errorf("%s: %d, %v", script, got, err)
		}
	}
}

func TestStartSaysWhatAShellWould(t *testing.T) {
	t.Setenv("PATH", os.Getenv("PATH"))
	s, err := makeStreams(os.Geteuid())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range slices.Concat(s.ours[:], s.theirs[:]) {
		defer f.Close()
	}
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/plain", []byte("no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	// A path without a slash at its start is one from the command's own directory.
	for name, want := range map[string]int{"nosuchprogram": 127, dir + "/plain": 126, "./plain": 126, "./nosuchfile": 127} {
		process, status, err := start(&vm.Job{Args: []string{name}, Dir: dir}, s, nil)
		if process != nil || status != want || err == nil {
			t.Errorf("%s: %v, %d, %v", name, process, status, err)
		}
	}
}

// TestMounts holds the order: a target comes after what it lies in.
func TestMounts(t *testing.T) {
	table := rootMounts(&vm.Job{Writable: []string{"/data"}, ModulesDir: "/lower/modules"})
	var targets []string
	for _, m := range table {
		for _, before := range targets {
			if strings.HasPrefix(before, m.target+"/") {
				t.Errorf("%s hides %s", m.target, before)
			}
		}
		targets = append(targets, m.target)
	}
	if !slices.Contains(targets, "/new/data") || !slices.Contains(targets, "/new/sys/fs/cgroup") {
		t.Errorf("%q", targets)
	}
}

func TestUnits(t *testing.T) {
	for mode, want := range map[vm.Mode]string{vm.Systemd: "systemd-logind.service\n", vm.SystemdUser: "user@1000.service\n"} {
		text := units(mode)["box-vm.service"]
		if !strings.Contains(text, want) || !strings.Contains(text, "\nDelegate=yes\n") || !strings.Contains(text, "/guest "+ServeCommand+"\n") {
			t.Errorf("%s: %s", mode, text)
		}
	}
}

func TestThroughUserManager(t *testing.T) {
	args := throughUserManager(&vm.Job{Mode: vm.SystemdUser, Dir: "/d", Args: []string{"cmd", "-x"}, Env: []string{"A=b c"}})
	line := strings.Join(args, "|")
	for _, want := range []string{"--working-directory=/d|", "|--setenv=A=b c|", "|--setenv=DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1000/bus|", "|--|cmd|-x"} {
		if !strings.Contains(line, want) {
			t.Errorf("%q is not in %s", want, line)
		}
	}
}
