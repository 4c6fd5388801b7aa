package runtime

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"box/pkg/terminal"
)

func TestTerminalOverConsoleSocket(t *testing.T) {
	b := newBench(t, "sh", "-c", "tty; ls -l /dev/console | cat")
	b.spec.Process.Terminal = true
	b.spec.Process.ConsoleSize = &specs.Box{Height: 33, Width: 77}
	b.spec.Process.Args = []string{"sh", "-c", "tty; cat /dev/console"}
	b.save()
	if r := b.try("create", b.id); r.code != 1 || !strings.Contains(r.err, "without setting console socket") {
		t.Errorf("create without a socket: %+v", r)
	}
	socket := b.bundle + "/console.sock"
	if len(socket) > 100 {
		socket = filepath.Join(os.TempDir(), b.id[:20]+".sock")
	}
	l, err := terminal.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b.do("create", "--console-socket", socket, b.id)
	defer b.do("delete", "--force", b.id)
	master, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	if rows, cols, err := terminal.Size(master); rows != 33 || cols != 77 {
		t.Errorf("size = %d x %d (%v), want 33 x 77", rows, cols, err)
	}
	b.do("start", b.id)
	line := make([]byte, 64)
	n, err := master.Read(line)
	if got := string(line[:n]); !strings.HasPrefix(got, "/dev/pts/0") {
		t.Errorf("the command's terminal is %q (%v)", got, err)
	}
}

// The terminal belongs to the command's user, so that it can be opened again by name,
// and its group is that of the devpts; in a user namespace as well, for processes that
// join, too.
func TestTerminalOwner(t *testing.T) {
	b := newBench(t, "sh", "-c", "busybox stat -c %u:%g $(tty); echo again > $(tty)")
	b.spec.Process.Terminal = true
	b.spec.Process.User = specs.User{UID: 1000, GID: 100}
	b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	b.spec.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
	b.spec.Linux.GIDMappings = b.spec.Linux.UIDMappings
	dir := filepath.Dir(b.bundle)
	if err := errors.Join(os.Chmod(dir, 0o711), os.Chmod(filepath.Dir(dir), 0o711), exec.Command("chown", "-R", "100000:100000", b.bundle).Run()); err != nil {
		t.Fatal(err)
	}
	const want = "1000:5\nagain\n"
	out := b.onTerminal("create", b.id)
	b.do("start", b.id)
	if got := textOfTerminal(out()); got != want {
		t.Errorf("the container's terminal: %q, want %q", got, want)
	}
	b.do("delete", "--force", b.id)
	script := b.spec.Process.Args
	b.spec.Process.Args, b.spec.Process.Terminal = []string{"sleep", "1000"}, false
	b.background()
	out = b.onTerminal(append([]string{"exec", "-d", "-t", b.id}, script...)...)
	if got := textOfTerminal(out()); got != want {
		t.Errorf("the terminal of a process that joins: %q, want %q", got, want)
	}
}

// atTerminal calls box-runtime with a console socket behind the verb, and returns the
// master end that it was sent.
func (b *bench) atTerminal(args ...string) *os.File {
	b.t.Helper()
	socket := filepath.Join(os.TempDir(), b.id[:20]+".sock") // paths of sockets are short
	l, err := terminal.Listen(socket)
	if err != nil {
		b.t.Fatal(err)
	}
	defer l.Close()
	b.do(append([]string{args[0], "--console-socket", socket}, args[1:]...)...)
	master, err := l.Accept()
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { master.Close() })
	return master
}

// onTerminal calls box-runtime with a console socket behind the verb, and returns what
// reads the terminal to its end.
func (b *bench) onTerminal(args ...string) (read func() string) {
	b.t.Helper()
	b.save()
	master := b.atTerminal(args...)
	return func() string {
		defer master.Close()
		text, err := io.ReadAll(master)
		if err != nil && !terminal.Closed(err) {
			b.t.Error(err)
		}
		return string(text)
	}
}

// textOfTerminal is what was written before the terminal has made its lines end in
// carriage return and newline.
func textOfTerminal(s string) string { return strings.ReplaceAll(s, "\r\n", "\n") }
