package label

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/internal/testkit"
	"box/pkg/launch"
)

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		wish  Wish
		host  Host
		class error
		text  string
	}{
		{Wish{}, Host{}, nil, ""},
		{Wish{AppArmor: Unconfined}, Host{}, nil, ""},
		{Wish{AppArmor: "docker-default"}, Host{AppArmor: true}, nil, ""},
		{Wish{AppArmor: "docker-default"}, Host{SELinux: true}, errdefs.ErrUnsupported, "process.apparmorProfile: apparmor: config provided but apparmor not supported"},
		{Wish{SELinux: "a:b:c:s0"}, Host{SELinux: true}, nil, ""},
		{Wish{SELinux: "a:b:c:s0"}, Host{AppArmor: true}, errdefs.ErrUnsupported, "process.selinuxLabel: selinux label is specified in config, but selinux is disabled or not supported"},
		// A line break would be a second command to AppArmor.
		{Wish{AppArmor: "a\nexec b"}, Host{AppArmor: true}, errdefs.ErrInvalid, "process.apparmorProfile: \"a\\nexec b\" is no label"},
		{Wish{SELinux: strings.Repeat("x", 5000)}, Host{SELinux: true}, errdefs.ErrInvalid, "is no label"},
	} {
		err := c.wish.Check(c.host)
		if !errors.Is(err, c.class) || err != nil && !strings.Contains(err.Error(), c.text) {
			t.Errorf("%.40v on %+v: %v, want %s", c.wish, c.host, err, c.text)
		}
	}
}

// Who wishes for nothing pays nothing.
func TestNoWishNoStep(t *testing.T) {
	p := &launch.Plan{ReportFD: 3}
	for _, w := range []Wish{{}, {AppArmor: Unconfined}} {
		keys := Add(p, w, Host{})
		LabelKeys(p, keys, "x")
	}
	if p.Len() != 0 {
		t.Errorf("%d steps:\n%s", p.Len(), p)
	}
	if !(Wish{}).None() || (Wish{SELinux: "x"}).None() {
		t.Error("None does not tell a wish from none")
	}
}

func TestPlan(t *testing.T) {
	p := &launch.Plan{ReportFD: 3}
	keys := Add(p, Wish{AppArmor: "docker-default", SELinux: "u:r:t:s0"}, Host{true, true})
	LabelKeys(p, keys, "u:r:t:s0")
	LabelKeys(p, keys, "")
	text := p.String()
	at := 0
	for _, want := range []string{
		`openat(AT_FDCWD, "/proc/thread-self"`, `"attr/apparmor/exec"`, `"attr/exec"`, `"exec docker-default", 19)`,
		`"attr/exec"`, `"u:r:t:s0", 8)`, `"attr/keycreate"`, `"u:r:t:s0", 8)`, `"", 0)`,
	} {
		i := strings.Index(text[at:], want)
		if i < 0 {
			t.Fatalf("no %s behind byte %d of\n%s", want, at, text)
		}
		at += i + len(want)
	}
	if _, err := launch.Compile(p, "arm64"); err != nil {
		t.Error(err)
	}
}

// run executes a command under a wish and returns its output.
func run(t *testing.T, w Wish, h Host, command ...string) (string, error) {
	t.Helper()
	p := &launch.Plan{ReportFD: 3}
	Add(p, w, h)
	p.Add(launch.Step{Name: "exec", Call: launch.Execve, Args: launch.Args{
		launch.Text(command[0]), launch.Strings(command), launch.Nil,
	}})
	text, _, failure := testkit.RunPlan(t, p, launch.Attr{})
	return text, failure
}

// On a kernel without the module the write fails, and nothing is executed unconfined.
func TestModuleThatIsNotThere(t *testing.T) {
	if Look() != (Host{}) {
		t.Skip("this kernel has security modules")
	}
	for _, w := range []Wish{{AppArmor: "box-test"}, {SELinux: "u:r:t:s0"}} {
		out, err := run(t, w, Host{true, true}, "/bin/echo", "executed")
		var step *launch.StepError
		if out != "" || !errors.As(err, &step) {
			t.Errorf("%+v: %q, %v", w, out, err)
			continue
		}
		if text := Failure(step.Step.Name, step.Errno); w.AppArmor != "" && !strings.HasPrefix(text, "unable to apply apparmor profile: apparmor failed to apply profile: ") {
			t.Errorf("%+v: %s", w, text)
		}
	}
}

// profile lets a process read and execute anything and write nothing.
const profile = `profile box-test-label flags=(attach_disconnected) { file, deny /** w, }`

// With AppArmor, the command runs under the profile; one that is not loaded is an error.
func TestAppArmorForReal(t *testing.T) {
	if !Look().AppArmor {
		t.Skip("needs a kernel with AppArmor")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: loads a profile")
	}
	parser, err := exec.LookPath("apparmor_parser")
	if err != nil {
		t.Skip("needs apparmor_parser (package apparmor)")
	}
	load := func(flag string) {
		cmd := exec.Command(parser, flag)
		cmd.Stdin = strings.NewReader(profile)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("apparmor_parser %s: %v\n%s", flag, err, out)
		}
	}
	load("--replace")
	defer load("--remove")
	out, err := run(t, Wish{AppArmor: "box-test-label"}, Look(), "/bin/cat", "/proc/self/attr/current")
	if err != nil || strings.TrimSpace(out) != "box-test-label (enforce)" {
		t.Errorf("the command runs under %q, %v", out, err)
	}
	_, err = run(t, Wish{AppArmor: "box-test-nobody-has-loaded"}, Look(), "/bin/cat", "/proc/self/attr/current")
	if !errors.Is(err, unix.ENOENT) {
		t.Errorf("a profile that is not loaded: %v", err)
	}
	out, err = run(t, Wish{AppArmor: Unconfined}, Look(), "/bin/cat", "/proc/self/attr/current")
	if err != nil || strings.TrimSpace(out) != "unconfined" {
		t.Errorf("unconfined: %q, %v", out, err)
	}
}
