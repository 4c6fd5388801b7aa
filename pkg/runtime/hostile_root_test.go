package runtime

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/testkit"
	"box/pkg/cgroups"
)

func mkfifo(path string) error { return unix.Mkfifo(path, 0o600) }

// CVE-2024-21626: a descriptor of the host that reaches the container, or a working
// directory that leads through one.
func TestNoDescriptorLeaks(t *testing.T) {
	b := newBench(t, "sh", "-c", "for f in /proc/self/fd/*; do readlink $f; done; true")
	b.save()
	host, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	count := func(flags ...string) (lines []string) {
		cmd := b.command(append(append([]string{"run"}, flags...), b.id)...)
		cmd.ExtraFiles = []*os.File{host, host}
		r := finish(t, cmd)
		if r.code != 0 {
			t.Fatalf("%+v", r)
		}
		return strings.Fields(r.out)
	}
	if got := count(); len(got) != 3 {
		t.Errorf("the command has %v, want stdio only", got)
	}
	if got := count("--preserve-fds", "1"); len(got) != 4 || got[3] != "/" {
		t.Errorf("with --preserve-fds 1 the command has %v, want one more", got)
	}
	if r := b.try("run", "--preserve-fds", "3", b.id); r.code != 1 || !strings.Contains(r.err, "preserve descriptor") {
		t.Errorf("preserving what is not open: %+v", r)
	}
}

func TestWorkingDirectoryCannotLeadOut(t *testing.T) {
	b := newBench(t, "sh", "-c", "ls ..; pwd")
	secret := filepath.Join(filepath.Dir(b.bundle), "host-file")
	if err := os.WriteFile(secret, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for n := range 32 {
		b.spec.Process.Cwd = fmt.Sprintf("/proc/self/fd/%d", n)
		if r := b.run(); r.code == 0 || strings.Contains(r.out, "host-file") {
			t.Errorf("run in %s: %+v", b.spec.Process.Cwd, r)
		}
	}
	b.spec.Process.Cwd, b.spec.Process.Args = "/", []string{"sleep", "1000"}
	b.save()
	b.do("run", "-d", b.id)
	defer b.do("delete", "--force", b.id)
	for n := range 32 {
		if r := b.try("exec", "--cwd", fmt.Sprintf("/proc/self/fd/%d", n), b.id, "ls", ".."); r.code != 255 || r.out != "" {
			t.Errorf("exec in /proc/self/fd/%d: %+v", n, r)
		}
	}
}

// CVE-2019-5736: the container opens the runtime by /proc/PID/exe and overwrites it.
func TestRuntimeBinaryIsOutOfReach(t *testing.T) {
	b := newBench(t, "/bin/entry")
	before := sha256.Sum256([]byte(testkit.Text(t, b.binary)))
	script := "#!/proc/self/exe\n"
	if err := os.WriteFile(b.bundle+"/rootfs/bin/entry", []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	_ = b.run()
	b.spec.Process.Args = []string{"sleep", "1000"}
	b.save()
	b.do("create", b.id)
	defer b.do("delete", "--force", b.id)
	st := b.expectStatus(Created)
	exe := fmt.Sprintf("/proc/%d/exe", st.Pid)
	if target, err := os.Readlink(exe); err != nil || strings.Contains(target, b.binary) {
		t.Errorf("%s leads to %q (%v)", exe, target, err)
	}
	f, err := os.OpenFile(exe, os.O_RDWR, 0)
	if err == nil {
		_, err = f.WriteAt([]byte("x"), 0)
		f.Close()
	}
	if err == nil {
		t.Error("even root can change the program that the container was started by")
	}
	if after := sha256.Sum256([]byte(testkit.Text(t, b.binary))); after != before {
		t.Error("the runtime's binary has changed")
	}
}

// CVE-2016-9962: who is joined must not be able to trace who joins. The joining
// program is not dumpable, so its /proc entries belong to the host's root, not to
// the container's; here, the waiting program of create stands for it.
func TestProgramIsNotDumpable(t *testing.T) {
	b := newBench(t, "sleep", "1000")
	b.save()
	b.do("create", b.id)
	defer b.do("delete", "--force", b.id)
	st := b.expectStatus(Created)
	status := testkit.Text(t, fmt.Sprintf("/proc/%d/status", st.Pid))
	if strings.Contains(status, "CoreDumping:\t1") {
		t.Error(status)
	}
	// A process that is not dumpable cannot be traced without CAP_SYS_PTRACE.
	cmd := exec.Command("/bin/sh", "-c", fmt.Sprintf("ls /proc/%d/fd/ 2>/dev/null", st.Pid))
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if r := finish(t, cmd); r.out != "" {
		t.Errorf("another user sees its descriptors: %q", r.out)
	}
}

func TestInheritableCapabilitiesStayEmpty(t *testing.T) { // CVE-2022-29162
	b := newBench(t, "sleep", "1000")
	b.save()
	b.do("run", "-d", b.id)
	defer b.do("delete", "--force", b.id)
	script := "while read k v; do case $k in CapInh:|CapEff:) echo $v; esac; done < /proc/self/status"
	for _, flags := range [][]string{{}, {"--cap", "CAP_CHOWN"}, {"-u", "1000"}} {
		r := b.try(append(append([]string{"exec"}, flags...), b.id, "sh", "-c", script)...)
		if lines := strings.Fields(r.out); len(lines) != 2 || lines[0] != "0000000000000000" {
			t.Errorf("exec %v: inheritable and effective are %q", flags, r.out)
		}
	}
}

func TestIDsCannotLeaveTheRoot(t *testing.T) {
	b := newBench(t, "true")
	b.save()
	for _, id := range []string{"../out", "..", ".", "a/b", "", "/etc", ".hidden"} {
		for _, verb := range []string{"create", "run", "state", "start", "delete", "exec"} {
			args := []string{verb, id}
			if verb == "exec" {
				args = append(args, "true")
			}
			if r := b.try(args...); r.code == 0 {
				t.Errorf("%s %q succeeded", verb, id)
			}
		}
	}
	if left, _ := filepath.Glob(filepath.Dir(b.root) + "/*"); len(left) > 2 { // bundle, and perhaps state
		t.Errorf("beside the bundle there is %v", left)
	}
}

// A process of the host that is given a container's pid is not the container.
func TestRecycledPid(t *testing.T) {
	b := newBench(t, "sleep", "1000")
	b.save()
	b.do("run", "-d", b.id)
	defer b.do("delete", "--force", b.id)
	record := filepath.Join(b.root, b.id, recordFile)
	text := testkit.Text(t, record)
	st := b.state()
	other := strings.Replace(text, fmt.Sprintf(`"pid":%d`, st.Pid), fmt.Sprintf(`"pid":%d`, os.Getpid()), 1)
	if err := os.WriteFile(record, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	b.expectStatus(Stopped)
	if r := b.try("kill", b.id, "KILL"); r.code == 0 {
		t.Error("kill signalled a stranger")
	}
	if err := os.WriteFile(record, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Scenario: box-runtime is killed at any moment of create; what it leaves can be
// deleted, and then nothing is left.
func TestKilledCreateCanBeDeleted(t *testing.T) {
	b := newBench(t, "sleep", "1000")
	b.save()
	whole := timeOf(t, b)
	stages := map[string]int{}
	for range 60 {
		create := b.command("create", b.id)
		killGroup(create)
		if err := create.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(rand.Int64N(int64(whole))), func() { _ = create.Process.Kill() })
		err := create.Wait()
		timer.Stop()
		switch st := b.state(); {
		case err == nil:
			stages["done"]++
		case st == nil:
			stages["nothing"]++
		default:
			stages[string(st.Status)]++
			if st.Status == Running {
				t.Error("a container whose create was killed runs")
			}
		}
		b.do("delete", "--force", b.id)
		b.nothingLeft()
	}
	t.Logf("found after the kill: %v", stages)
}

// Scenario: the limit of open files is too low for a create, by more or by less; it says so
// in one line, and leaves nothing that the next would find, which takes descriptors, too.
func TestCreateWithFewDescriptors(t *testing.T) {
	b := newBench(t, "sleep", "1000")
	b.spec.Process.Rlimits = nil
	b.save()
	t.Cleanup(func() { b.try("delete", "--force", b.id) })
	for limit := 5; ; limit += 1 + limit/20 {
		create := b.command("create", b.id)
		create.Args = append([]string{"sh", "-c", `ulimit -n "$0"; exec "$@"`, strconv.Itoa(limit)}, create.Args...)
		create.Path = "/bin/sh"
		r := finish(t, create)
		if r.code == 0 {
			t.Logf("enough are %d", limit)
			break
		}
		if !strings.HasSuffix(r.err, ": too many open files\n") || strings.Count(r.err, "\n") != 1 || limit > 500 {
			t.Fatalf("at most %d descriptors: %s", limit, r.err)
		}
	}
}

func timeOf(t *testing.T, b *bench) time.Duration {
	t.Helper()
	begin := time.Now()
	b.do("create", b.id)
	took := time.Since(begin)
	b.do("delete", "--force", b.id)
	return took
}

// Scenario: box-runtime is killed while it runs a container in the foreground; the
// container dies with it.
func TestForegroundContainerDiesWithUs(t *testing.T) {
	b := newBench(t, "sh", "-c", "echo > /tmp/up; sleep 1000")
	fifo := b.bundle + "/rootfs/tmp/up"
	if err := mkfifo(fifo); err != nil {
		t.Fatal(err)
	}
	b.save()
	run := b.command("run", b.id)
	killGroup(run)
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	_ = testkit.Text(t, fifo) // ends when the command has got there
	st := b.expectStatus(Running)
	if err := run.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = run.Wait()
	waitGone(t, st.Pid)
	b.expectStatus(Stopped)
	b.do("delete", b.id)
}

func TestForegroundForwardsSignals(t *testing.T) {
	b := newBench(t, "sh", "-c", `trap 'exit 33' USR1; echo > /tmp/up; while :; do sleep 1000 & wait; done`)
	fifo := b.bundle + "/rootfs/tmp/up"
	if err := mkfifo(fifo); err != nil {
		t.Fatal(err)
	}
	b.save()
	run := b.command("run", b.id)
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = run.Process.Kill() }() // also when the test gives up
	_ = testkit.Text(t, fifo)
	if err := run.Process.Signal(unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	_ = run.Wait()
	if code := run.ProcessState.ExitCode(); code != 33 {
		t.Errorf("exit code %d, want 33 from the command's trap", code)
	}
}

// GHSA-g54h-m393-cpwq: devices that no rule allows are denied, also without rules.
func TestDevicesAreDeniedByDefault(t *testing.T) {
	for name, rules := range map[string][]specs.LinuxDeviceCgroup{
		"deny all": {{Allow: false, Access: "rwm"}}, "no rules": nil,
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, "sh", "-c", "busybox mknod /tmp/vda b 254 0; cat /tmp/vda >/dev/null 2>&1 && echo open; cat /dev/null && echo null")
			b.spec.Linux.Resources = &specs.LinuxResources{Devices: rules}
			caps := b.spec.Process.Capabilities
			for _, set := range []*[]string{&caps.Bounding, &caps.Effective, &caps.Permitted} {
				*set = append(*set, "CAP_MKNOD", "CAP_DAC_OVERRIDE")
			}
			if r := b.run(); r.out != "null\n" {
				t.Errorf("%+v, want only /dev/null to open", r)
			}
		})
	}
}

func TestUnsupportedIsRefusedByName(t *testing.T) {
	b := newBench(t, "true")
	b.save()
	for want, args := range map[string][]string{
		"flag provided but not": {"create", "--nope", b.id},
	} {
		if r := b.try(args...); r.code != 1 || !strings.Contains(r.err, want) {
			t.Errorf("%v: %+v, want %q", args, r, want)
		}
	}
	if _, err := os.Stat(filepath.Join(b.root, b.id)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a refused create left its state (%v)", err)
	}
}

// A cgroup in which others live is not taken over, and above all not killed when
// create fails for it.
func TestForeignCgroupIsLeftAlone(t *testing.T) {
	b := newBench(t, "true")
	root, err := cgroups.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, b.id+"-foreign")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	group, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer group.Close()
	other := exec.Command("sleep", "1000")
	other.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	b.spec.Linux.CgroupsPath = "/" + b.id + "-foreign"
	if r := b.run(); r.code != 1 || !strings.Contains(r.err, "container's cgroup is not empty: 1 process(es)") {
		t.Errorf("%+v", r)
	}
	if err := other.Process.Signal(unix.Signal(0)); err != nil {
		t.Errorf("the process in the foreign cgroup: %v", err)
	}
	_ = other.Process.Kill()
	_ = other.Wait()
	if err := os.Remove(dir); err != nil {
		t.Error(err)
	}
}

// The standard streams are often the host's /dev/null; the command must not get at
// that inode, neither in run nor in exec.
func TestHostsNullIsOutOfReach(t *testing.T) {
	inode := func() (ino uint64, mode uint32) {
		var st unix.Stat_t
		if err := unix.Stat("/dev/null", &st); err != nil {
			t.Fatal(err)
		}
		return st.Ino, st.Mode
	}
	ino, mode := inode()
	const script = "busybox stat -L -c %i /proc/self/fd/0; busybox chmod 640 /proc/self/fd/0"
	b := newBench(t, "sh", "-c", script)
	caps := b.spec.Process.Capabilities
	for _, set := range []*[]string{&caps.Bounding, &caps.Effective, &caps.Permitted} {
		*set = append(*set, "CAP_FOWNER")
	}
	own := fmt.Sprintln(ino)
	if r := b.run(); r.code != 0 || r.out == own {
		t.Errorf("run: %+v, want another inode than the host's %d", r, ino)
	}
	b.spec.Process.Args = []string{"sleep", "1000"}
	b.save()
	b.do("run", "-d", b.id)
	defer b.do("delete", "--force", b.id)
	if r := b.try("exec", b.id, "sh", "-c", script); r.code != 0 || r.out == own {
		t.Errorf("exec: %+v, want another inode than the host's %d", r, ino)
	}
	if _, now := inode(); now != mode {
		_ = os.Chmod("/dev/null", 0o666)
		t.Errorf("mode of the host's /dev/null is %o, was %o", now, mode)
	}
}

// Who calls from a chroot gets a container whose mount namespace has the image at
// its root, not the tree around the chroot: exec joins the namespace and lands at
// its root. The mounts around the chroot, shared as systemd shares them, stay.
func TestChrootedCaller(t *testing.T) {
	b := newBench(t, "sleep", "1000")
	b.save()
	outside := t.TempDir()
	const script = `set -e
dir=$1 program=$2 state=$3 bundle=$4 id=$5
mount --make-rprivate /
mount -t tmpfs outside "$dir"; mount --make-shared "$dir"
mkdir "$dir/sub" "$dir/root"; mount -t tmpfs sub "$dir/sub"
mount --rbind / "$dir/root"
before=$(grep -c . /proc/self/mountinfo)
box() { chroot "$dir/root" "$program" --root "$state" "$@"; }
box run --detach --bundle "$bundle" "$id" >/dev/null
box exec "$id" ls /
box delete --force "$id"
test "$before" = "$(grep -c . /proc/self/mountinfo)" || echo mounts are gone
`
	r := finish(t, exec.Command("unshare", "--mount", "sh", "-c", script, "sh", outside, b.binary, b.root, b.bundle, b.id))
	got := strings.Fields(r.out)
	if want := []string{"bin", "dev", "etc", "proc", "sys", "tmp"}; r.code != 0 || !slices.Equal(got, want) {
		t.Errorf("exit %d: / of the container holds %q, want %q\n%s", r.code, got, want, r.err)
	}
}
