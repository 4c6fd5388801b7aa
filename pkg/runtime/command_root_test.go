package runtime

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
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
			b.refusedByCreate(command, "box-runtime: "+want)
		} else {
			b.endsAtOnce(command, want)
		}
	}
}

// refusedByCreate: the command cannot be executed, and create can tell.
func (b *bench) refusedByCreate(command, want string) {
	b.t.Helper()
	if r := b.run(); r.code != 1 || strings.TrimSpace(r.err) != want {
		b.t.Errorf("run %s: %+v, want %q", command, r, want)
	}
	if r := b.try("create", b.id); r.code != 1 || strings.TrimSpace(r.err) != want {
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
	if got := textOf(b.t, output); got != want+"\n" {
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
	if text := textOf(t, log); !strings.Contains(text, "level=debug") || !strings.Contains(text, b.id) {
		t.Errorf("log: %s", text)
	}
}

// The streams are made by somebody else, often root; the command's user must be able
// to open them by name all the same, in run and in exec.
func TestUserOpensItsStreams(t *testing.T) {
	b := newBench(t, "sh", "-c", "echo out >/proc/self/fd/1; echo err >/proc/self/fd/2")
	b.spec.Process.User = specs.User{UID: 1000, GID: 1000}
	if r := b.run(); r.code != 0 || r.out != "out\n" || r.err != "err\n" {
		t.Errorf("run: %+v", r)
	}
	b.spec.Process = &specs.Process{Args: []string{"sleep", "1000"}, Env: []string{"PATH=/bin"}, Cwd: "/"}
	b.save()
	b.do("run", "-d", b.id)
	defer b.do("delete", "--force", b.id)
	if r := b.try("exec", "--user", "1000:1000", b.id, "sh", "-c", "echo out >/proc/self/fd/1"); r.code != 0 || r.out != "out\n" {
		t.Errorf("exec: %+v", r)
	}
}

func TestStreamsFor(t *testing.T) {
	streams := []stream{{0, 0}, {1, 1000}}
	for _, c := range []struct {
		uid    uint32
		userns bool
		want   []int
	}{
		{0, false, []int{1}}, {1000, false, []int{0}}, {7, false, []int{0, 1}}, {0, true, []int{0, 1}},
	} {
		if got := streamsFor(streams, c.uid, c.userns); !slices.Equal(got, c.want) {
			t.Errorf("user %d, mapped %v: %v, want %v", c.uid, c.userns, got, c.want)
		}
	}
}
