package runtime

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"box/internal/testkit"
)

// needsCriu skips where criu is missing or cannot work with the kernel (that of Debian
// 12 does not start on Linux 6.18).
func needsCriu(t *testing.T) {
	t.Helper()
	check := exec.Command("criu", "check")
	check.Dir = t.TempDir() // it may leave a log there
	if out, err := check.CombinedOutput(); err != nil {
		t.Skipf("needs a criu that works with this kernel: %v\n%s", err, bytes.TrimSpace(out))
	}
}

// nulls calls box-runtime with /dev/null as its streams: files of the host would be none
// that criu finds in the container.
func (b *bench) nulls(args ...string) {
	b.t.Helper()
	if err := b.command(args...).Run(); err != nil {
		b.t.Fatalf("box-runtime %v: %v", args, err)
	}
}

// counter is the number that the container of these tests counts up in a file.
func (b *bench) counter() int {
	data, _ := os.ReadFile(b.bundle + "/rootfs/tmp/n") // not yet there, or just being written
	n, _ := strconv.Atoi(strings.TrimSpace(string(data)))
	return n
}

// counts waits until the container has counted further than from. It writes to a file
// of the host, of which nobody would tell us; so we look again and again.
func (b *bench) counts(from int) int {
	b.t.Helper()
	for range 600 {
		if n := b.counter(); n > from {
			return n
		}
		time.Sleep(50 * time.Millisecond)
	}
	b.t.Fatalf("the container does not count beyond %d", from)
	return 0
}

// A container that was written to disk goes on from there, with its processes, its
// mounts and its place.
func TestCheckpointAndRestore(t *testing.T) {
	b := newBench(t, "sh", "-c", "i=0; while :; do i=$((i+1)); echo $i > /tmp/n; sleep 0.1; done")
	needsCriu(t)
	dir := b.bundle
	b.save()
	b.nulls("run", "--detach", b.id)
	defer b.do("delete", "--force", b.id)
	b.counts(0)
	b.do("checkpoint", "--leave-running", "--image-path", dir+"/first", "--work-path", dir+"/work", b.id)
	b.counts(b.counter())
	images := dir + "/images"
	b.do("checkpoint", "--image-path", images, "--work-path", dir+"/work", b.id)
	if st := b.state(); st != nil {
		t.Fatalf("after the checkpoint: %+v", st)
	}
	b.nothingLeft()
	stopped := b.counter()
	b.nulls("restore", "--detach", "--image-path", images, "--work-path", dir+"/work", "--pid-file", dir+"/pid", b.id)
	st := b.expectStatus(Running)
	if got := testkit.Text(t, dir+"/pid"); got != strconv.Itoa(st.Pid) {
		t.Errorf("pid file %q, state %d", got, st.Pid)
	}
	if n := b.counts(stopped); n > stopped+100 {
		t.Errorf("counts on from %d, stopped at %d", n, stopped)
	}
	if out := b.do("exec", b.id, "echo", "here"); out != "here\n" {
		t.Errorf("exec: %q", out)
	}
	if groups := testkit.Text(t, "/proc/"+strconv.Itoa(st.Pid)+"/cgroup"); !strings.Contains(groups, b.id) {
		t.Errorf("restored into %s", groups)
	}
	if mounts := testkit.Text(t, "/proc/self/mountinfo"); strings.Contains(mounts, "criu-root") {
		t.Error("the mount for criu is left behind")
	}
	b.do("pause", b.id)
	b.do("resume", b.id)
}

// In the foreground restore ends as the container does, and leaves nothing; what were
// pipes are ours then.
func TestRestoreInTheForeground(t *testing.T) {
	b := newBench(t, "sh", "-c", "i=0; while [ ! -e /tmp/end ]; do i=$((i+1)); echo $i > /tmp/n; sleep 0.1; done; echo the end; exit 7")
	needsCriu(t)
	b.save()
	run := b.command("run", "--detach", b.id)
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	run.Stdout = in
	if err := errors.Join(run.Run(), in.Close()); err != nil {
		t.Fatal(err)
	}
	b.counts(0)
	images := b.bundle + "/images"
	b.do("checkpoint", "--image-path", images, b.id)
	if err := os.WriteFile(b.bundle+"/rootfs/tmp/end", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := b.command("restore", "--image-path", images, b.id).Output() // a pipe in the old one's place
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 7 || string(text) != "the end\n" {
		t.Errorf("restore: %v, %q", err, text)
	}
	if st := b.state(); st != nil {
		t.Errorf("left: %+v", st)
	}
}

// The pipes that create was given are written down, for restore to put others in their
// place; whatever is no pipe is not, nor anything of a container with a terminal.
func TestPipesAreWrittenDown(t *testing.T) {
	b := newBench(t, "true")
	b.save()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	cmd := b.command("create", b.id)
	cmd.Stdout = write
	if err := errors.Join(cmd.Run(), write.Close()); err != nil {
		t.Fatal(err)
	}
	defer b.do("delete", "--force", b.id)
	name, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(read.Fd())))
	if err != nil {
		t.Fatal(err)
	}
	if state, want := testkit.Text(t, b.root+"/"+b.id+"/state.json"), `"pipes":["","`+name+`",""]`; !strings.Contains(state, want) {
		t.Errorf("%s is not in %s", want, state)
	}
}

func TestOtherStreamsAreNot(t *testing.T) {
	b := newBench(t, "true")
	b.save()
	b.nulls("create", b.id)
	defer b.do("delete", "--force", b.id)
	if state := testkit.Text(t, b.root+"/"+b.id+"/state.json"); strings.Contains(state, "pipes") {
		t.Errorf("there are none: %s", state)
	}
}

// What cannot be done is refused before anything is made or ended.
func TestCheckpointRefusals(t *testing.T) {
	b := newBench(t, "sleep", "1000")
	b.save()
	b.do("create", b.id)
	defer b.do("delete", "--force", b.id)
	file := b.bundle + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"Container cannot be checkpointed in created state":  {"checkpoint", b.id},
		"container does not exist: ghost":                    {"checkpoint", "ghost"},
		"--parent-path must be relative":                     {"checkpoint", "--parent-path", "/x", b.id},
		"invalid --parent-path: stat img/none":               {"checkpoint", "--image-path", "img", "--parent-path", "none", b.id},
		"not a directory":                                    {"checkpoint", "--image-path", "img", "--parent-path", "../file", b.id},
		"invalid manage-cgroups-mode value":                  {"checkpoint", "--manage-cgroups-mode", "hard", b.id},
		"Use --page-server ADDRESS:PORT":                     {"checkpoint", "--page-server", "x", b.id},
		`namespace "pid" is not supported`:                   {"checkpoint", "--empty-ns", "pid", b.id},
		"open missing: no such file or directory":            {"restore", "--image-path", "missing", b.id},
		"container with given ID already exists: " + b.id:    {"restore", "--image-path", ".", b.id},
		"images/descriptors.json: no such file or directory": {"restore", "--image-path", b.bundle + "/images", b.id + "-2"},
	} {
		if strings.Contains(want, "descriptors") {
			if err := os.Mkdir(b.bundle+"/images", 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if r := b.try(args...); r.code != 1 || !strings.Contains(r.err, want) {
			t.Errorf("%v: %+v, want %q", args, r, want)
		}
	}
	b.expectStatus(Created)
}

// A network namespace of the container's own is made anew, and is as create would have
// made it: its loopback is up, and it has the devices and the parameters that the
// specification wants.
func TestRestoreInNewNetwork(t *testing.T) {
	b := newBench(t, "sh", "-c", "i=0; while :; do i=$((i+1)); echo $i > /tmp/n; sleep 0.1; done")
	needsCriu(t)
	ownNetwork(t)
	b.spec.Linux.NetDevices = map[string]specs.LinuxNetDevice{"boxnd0": {Name: "inside0"}}
	b.spec.Linux.Sysctl = map[string]string{"net.ipv4.ip_unprivileged_port_start": "7", "kernel.shmmni": "77"}
	b.save()
	b.nulls("run", "--detach", b.id)
	b.counts(0)
	images := b.bundle + "/images"
	b.do("checkpoint", "--image-path", images, b.id)
	for exec.Command("ip", "link", "show", "boxnd1").Run() == nil { // the pair ends with the namespace
		time.Sleep(50 * time.Millisecond)
	}
	ip(t, "link add boxnd0 type veth peer name boxnd1")
	ip(t, "address add 198.51.100.7/24 dev boxnd0")
	b.nulls("restore", "--detach", "--image-path", images, b.id)
	defer b.do("delete", "--force", b.id)
	pid := strconv.Itoa(b.expectStatus(Running).Pid)
	out, err := exec.Command("nsenter", "-t", pid, "-n", "ip", "-o", "address").CombinedOutput()
	for _, want := range []string{" lo    inet 127.0.0.1/8 ", " inside0    inet 198.51.100.7/24 "} {
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%v: %q is not among the addresses: %s", err, want, out)
		}
	}
	if out := b.do("exec", b.id, "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start", "/proc/sys/kernel/shmmni"); out != "7\n77\n" {
		t.Errorf("kernel parameters: %q", out)
	}
}
