package label

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"box/internal/testkit"
	"box/pkg/launch"
)

// loadTestPolicy gives a kernel with SELinux and without a policy the one in testdata. It
// is for machines that end with the test, and skips everywhere else.
func loadTestPolicy(t *testing.T) {
	t.Helper()
	if os.Getenv("BOX_TEST_SELINUX") == "" {
		t.Skip("needs a machine of its own with SELinux (BOX_TEST_SELINUX)")
	}
	checkpolicy, err := exec.LookPath("checkpolicy")
	if err != nil {
		t.Skip("needs checkpolicy")
	}
	if err := unix.Mount("selinuxfs", "/sys/fs/selinux", "selinuxfs", 0, ""); err != nil && err != unix.EBUSY {
		t.Fatal(err)
	}
	if Look().SELinux {
		return
	}
	file := filepath.Join(t.TempDir(), "policy")
	if out, err := exec.Command(checkpolicy, "-U", "allow", "-c", "33", "-o", file, "testdata/selinux.conf").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	policy, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/sys/fs/selinux/load", policy, 0); err != nil {
		t.Fatal(err)
	}
}

// With SELinux, the command runs under the label, and the session keyring that is made
// for it has it, too.
func TestSELinuxForReal(t *testing.T) {
	loadTestPolicy(t)
	const want = "box_u:box_r:box_t"
	if !Look().SELinux {
		t.Fatal("SELinux is not seen")
	}
	out, err := run(t, Wish{SELinux: want}, Look(), "/bin/cat", "/proc/self/attr/current")
	if err != nil || strings.Trim(out, "\x00\n") != want {
		t.Errorf("the command runs under %q, %v", out, err)
	}
	if _, err := run(t, Wish{SELinux: "box_u:box_r:nobody_t"}, Look(), "/bin/cat", "/proc/self/attr/current"); err == nil {
		t.Error("a label that the policy does not have was taken")
	}
	if label := labelOfKeyring(t, want); label != want {
		t.Errorf("the keyring has %q", label)
	}
}

// labelOfKeyring makes a keyring with a label, by the steps, and asks for its label.
func labelOfKeyring(t *testing.T, label string) string {
	t.Helper()
	p := &launch.Plan{ReportFD: 3}
	file := Add(p, Wish{SELinux: label}, Look())
	LabelKeys(p, file, label)
	key := p.Slot("key")
	p.Add(launch.Step{
		Name: "make keyring", Call: launch.Keyctl, Into: key,
		Args: launch.Args{launch.Int(unix.KEYCTL_JOIN_SESSION_KEYRING), launch.Text("box-test-label")},
	})
	LabelKeys(p, file, "")
	p.MarkValue("made", "", key)
	p.Await(launch.Int(0), "wait to be looked at", "")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	proc := testkit.StartPlan(t, p, launch.Attr{Files: []*os.File{r}})
	_, number, err := proc.ReportValue()
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 256)
	n, _, errno := unix.Syscall6(unix.SYS_KEYCTL, unix.KEYCTL_GET_SECURITY, uintptr(number), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), 0, 0)
	runtime.KeepAlive(buf)
	w.Close()
	if _, err := proc.Wait(); err != nil {
		t.Error(err)
	}
	if errno != 0 {
		t.Fatal(errno)
	}
	return strings.TrimRight(string(buf[:n]), "\x00")
}
