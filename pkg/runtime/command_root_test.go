package runtime

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/testkit"
)

// The words are what engines make exit codes 126 and 127 of.
func TestCommandThatCannotBeExecuted(t *testing.T) {
	b := newBench(t)
	root := b.bundle + "/rootfs"
	for name, content := range map[string]string{"etc/data": "x", "bin/orphan": "#!/no/such/interpreter\n", "bin/garbage": "\x00\x01\x02"} {
		mode := os.FileMode(0o755)
		if name == "etc/data" {
			mode = 0o644
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	for command, want := range map[string]string{
		"nope":         `exec: "nope": executable file not found in $PATH`,
		"/no/such":     `exec: "/no/such": stat /no/such: no such file or directory`,
		"/etc/data":    `exec: "/etc/data": permission denied`,
		"/etc":         `exec: "/etc": permission denied`,
		"/etc/data/x":  `exec: "/etc/data/x": stat /etc/data/x: not a directory`,
		"/bin/orphan":  "exec /bin/orphan: no such file or directory",
		"/bin/garbage": "exec /bin/garbage: exec format error",
	} {
		b.spec.Process.Args = []string{command}
		if strings.HasPrefix(want, "exec:") {
			b.refusedByCreate(command, want)
		} else {
			b.endsAtOnce(command, want)
		}
	}
}

// refusedByCreate: the command cannot be executed, and create can tell.
func (b *bench) refusedByCreate(command, want string) {
	b.t.Helper()
	if r := b.run(); r.code != 1 || strings.TrimSpace(r.err) != "box-runtime run failed: "+want {
		b.t.Errorf("run %s: %+v, want %q", command, r, want)
	}
	if r := b.try("create", b.id); r.code != 1 || strings.TrimSpace(r.err) != "box-runtime create failed: "+want {
		b.t.Errorf("create %s: %+v, want %q", command, r, want)
	}
}

// endsAtOnce: only execve knows what is wrong, so it is the command that has failed, as
// with runc: start is silent, the words are in the container's own output, and it has
// an exit code.
func (b *bench) endsAtOnce(command, want string) {
	b.t.Helper()
	if r := b.run(); r.code != 255 || r.err != want+"\n" {
		b.t.Errorf("run %s: %+v, want %q", command, r, want)
	}
	output := filepath.Join(b.t.TempDir(), "output")
	f, err := os.Create(output)
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	create := b.command("create", b.id)
	create.Stdout, create.Stderr = f, f
	if err := create.Run(); err != nil {
		b.t.Fatal(err)
	}
	if r := b.try("start", b.id); r != (result{}) {
		b.t.Errorf("start %s: %+v, want nothing", command, r)
	}
	b.expectStatus(Stopped)
	b.do("delete", b.id)
	if got := testkit.Text(b.t, output); got != want+"\n" {
		b.t.Errorf("%s said %q, want %q", command, got, want)
	}
}

func TestDebugGoesToTheLog(t *testing.T) {
	b := newBench(t, "true")
	b.save()
	log := b.bundle + "/log"
	if r := b.try("--debug", "--log", log, "run", b.id); r.code != 0 || r.out+r.err != "" {
		t.Errorf("%+v, want silence", r)
	}
	if text := testkit.Text(t, log); !strings.Contains(text, "level=debug") || !strings.Contains(text, b.id) {
		t.Errorf("log: %s", text)
	}
}

// Pipes are made by somebody else, often root; the command's user must be able to open
// them by name all the same, in run and in exec.
func TestUserOpensItsStreams(t *testing.T) {
	b := newBench(t, "sh", "-c", "echo out >/proc/self/fd/1; echo err >/proc/self/fd/2")
	b.spec.Process.User = specs.User{UID: 1000, GID: 1000}
	b.save()
	piped := func(args ...string) (out, errs string) {
		t.Helper()
		var o, e strings.Builder
		cmd := b.command(args...)
		cmd.Stdout, cmd.Stderr = &o, &e
		if err := cmd.Run(); err != nil {
			t.Error(err)
		}
		return o.String(), e.String()
	}
	if out, errs := piped("run", b.id); out != "out\n" || errs != "err\n" {
		t.Errorf("run: %q, %q", out, errs)
	}
	b.spec.Process = &specs.Process{Args: []string{"sleep", "1000"}, Env: []string{"PATH=/bin"}, Cwd: "/"}
	b.save()
	b.do("run", "-d", b.id)
	defer b.do("delete", "--force", b.id)
	if out, errs := piped("exec", "--user", "1000:1000", b.id, "sh", "-c", "echo out >/proc/self/fd/1"); out != "out\n" {
		t.Errorf("exec: %q, %q", out, errs)
	}
}

// A log that the caller redirects to stays the caller's.
func TestRedirectedFileStaysTheCallers(t *testing.T) {
	b := newBench(t, "echo", "logged")
	b.spec.Process.User = specs.User{UID: 1000, GID: 1000}
	b.save()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := b.command("run", b.id)
	cmd.Stdout = log
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(log.Fd()), &st); err != nil || st.Uid != 0 {
		t.Errorf("the log belongs to user %d (%v)", st.Uid, err)
	}
	if text := testkit.Text(t, log.Name()); text != "logged\n" {
		t.Errorf("log: %q", text)
	}
}
