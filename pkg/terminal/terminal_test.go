package terminal

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"box/internal/testkit"
	"box/pkg/launch"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func options(uid uint32) Options {
	return Options{Root: launch.Cwd, Socket: 4, Console: true, UID: uid, Rows: 24, Cols: 80, KeepNewlines: true}
}

func TestGoldenPlan(t *testing.T) {
	var p launch.Plan
	Add(&p, options(1000))
	AddControl(&p)
	const golden = "testdata/console.plan"
	got := []byte(p.String())
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("plan differs from %s (run with -update and look at the difference):\n%s", golden, got)
	}
}

// container returns a root directory with /dev/pts and /dev, and steps that make it
// the root of a new mount namespace with a devpts in it.
func container(t *testing.T) (root string, p *launch.Plan) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes a mount namespace")
	}
	root = t.TempDir()
	for _, d := range []string{"bin", "dev/pts"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p = &launch.Plan{ReportFD: 3}
	p.Add(
		launch.Step{Name: "umask", Call: launch.Umask},
		launch.Step{Name: "private", Call: launch.Mount, Args: launch.Args{launch.Nil, launch.Text("/"), launch.Nil, launch.Int(unix.MS_REC | unix.MS_PRIVATE)}},
		launch.Step{Name: "devpts", Call: launch.Mount, Args: launch.Args{
			launch.Text("devpts"), launch.Text(root + "/dev/pts"), launch.Text("devpts"), launch.Int(0), launch.Text("newinstance,ptmxmode=0666"),
		}},
		launch.Step{Name: "bin", Call: launch.Mount, Args: launch.Args{
			launch.Text("/bin"), launch.Text(root + "/bin"), launch.Nil, launch.Int(unix.MS_BIND),
		}},
		launch.Step{Name: "chroot", Call: launch.Chroot, Args: launch.Args{launch.Text(root)}},
		launch.Step{Name: "chdir", Call: launch.Chdir, Args: launch.Args{launch.Text("/")}},
	)
	return root, p
}

// start runs the plan in a new mount namespace, with the console socket at 4.
func start(t *testing.T, p *launch.Plan, socket *os.File) *launch.Process {
	t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	attr := launch.Attr{Files: []*os.File{null, null, null, nil, socket}}
	attr.Sys.Cloneflags = unix.CLONE_NEWNS
	proc := testkit.StartPlan(t, p, attr)
	socket.Close()
	return proc
}

// readAll reads from a master until the slave is gone.
func readAll(t *testing.T, master *os.File) string {
	t.Helper()
	var b strings.Builder
	if _, err := io.Copy(&b, master); err != nil && !Closed(err) {
		t.Error(err)
	}
	return b.String()
}

func TestTerminalInContainer(t *testing.T) {
	busybox, err := os.Stat("/bin/busybox")
	if err != nil || busybox.IsDir() {
		t.Skip("needs a static /bin/busybox")
	}
	_, p := container(t)
	Add(p, options(65534))
	AddControl(p)
	p.Add(launch.Step{Name: "exec", Call: launch.Execve, Args: launch.Args{
		launch.Text("/bin/busybox"),
		launch.Strings([]string{"sh", "-c", "tty; stty size; ls -ln /dev/console; test -t 0 && echo yes > /dev/pts/0; echo con > /dev/console; read x; echo got $x"}),
		launch.Nil,
	}})
	ours, theirs, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	proc := start(t, p, theirs)
	master, err := Receive(ours)
	if err != nil {
		_, failure := proc.Report()
		t.Fatal(err, failure)
	}
	defer master.Close()
	if _, err := master.WriteString("word\n"); err != nil {
		t.Fatal(err)
	}
	out := strings.ReplaceAll(readAll(t, master), "\r\n", "\n")
	if _, failure := proc.Report(); !errors.Is(failure, io.EOF) {
		t.Fatal(failure)
	}
	if ws, err := proc.Wait(); err != nil || ws.ExitStatus() != 0 {
		t.Errorf("command ended with %#x, %v", ws, err)
	}
	for _, want := range []string{"/dev/pts/0\n", "24 80\n", " 65534 ", "136,   0", "yes\n", "con\n", "got word\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
}

// TestNoDevptsIsRefused is the case of an image that has files of its own at
// /dev/pts, and a configuration without a devpts mount (CVE-2025-52565).
func TestNoDevptsIsRefused(t *testing.T) {
	_, p := container(t)
	p.Add(launch.Step{Name: "unmount", Call: launch.Umount2, Args: launch.Args{launch.Text("/dev/pts"), launch.Int(0)}})
	Add(p, options(0))
	ours, theirs, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	proc := start(t, p, theirs)
	if _, err := Receive(ours); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Receive = %v", err)
	}
	_, err = proc.Report()
	if !errors.Is(err, unix.ENODEV) || !strings.Contains(err.Error(), "not a devpts") {
		t.Errorf("error = %v", err)
	}
	if _, err := proc.Wait(); err != nil {
		t.Error(err)
	}
}

// TestConsoleSymlinkIsRefused is the case of an image whose /dev/console points
// elsewhere.
func TestConsoleSymlinkIsRefused(t *testing.T) {
	root, p := container(t)
	if err := os.Symlink("/dev/victim", filepath.Join(root, "dev/console")); err != nil {
		t.Fatal(err)
	}
	Add(p, options(0))
	ours, theirs, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	proc := start(t, p, theirs)
	if _, err := proc.Report(); !errors.Is(err, unix.ELOOP) {
		t.Errorf("error = %v, want ELOOP", err)
	}
	if _, err := proc.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Join(root, "dev/victim")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("victim was made: %v", err)
	}
}

func TestListenAcceptDial(t *testing.T) {
	path := filepath.Join(t.TempDir(), "console.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	sock, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Sendmsg(int(sock.Fd()), []byte("x"), unix.UnixRights(int(master.Fd())), nil, 0); err != nil {
		t.Fatal(err)
	}
	sock.Close()
	got, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	if err := SetSize(got, 5, 7); err != nil {
		t.Fatal(err)
	}
	if rows, cols, err := Size(master); rows != 5 || cols != 7 || err != nil {
		t.Errorf("size = %d, %d, %v", rows, cols, err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket is left: %v", err)
	}
}

func TestCloseEndsAccept(t *testing.T) {
	l, err := Listen(filepath.Join(t.TempDir(), "console.sock"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { _, err := l.Accept(); done <- err }()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, os.ErrClosed) {
		t.Errorf("Accept = %v, want closed", err)
	}
}

func TestMakeRawAndRestore(t *testing.T) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	lflag := func() uint32 {
		now, err := unix.IoctlGetTermios(int(master.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		return now.Lflag
	}
	before := lflag()
	restore, err := MakeRaw(master)
	if err != nil {
		t.Fatal(err)
	}
	if lflag()&(unix.ECHO|unix.ICANON|unix.ISIG) != 0 {
		t.Error("not raw")
	}
	if err := restore(); err != nil || lflag() != before {
		t.Errorf("restored to %#x, %v; was %#x", lflag(), err, before)
	}
	if restore, err = MakeInputRaw(master); err != nil || lflag()&unix.ICANON != 0 {
		t.Errorf("input is not raw: %v", err)
	}
	if now, err := unix.IoctlGetTermios(int(master.Fd()), unix.TCGETS); err != nil || now.Oflag&unix.OPOST == 0 {
		t.Errorf("output is raw too: %v", err)
	}
	if err := restore(); err != nil {
		t.Error(err)
	}
	pipe, _, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	if _, err := MakeRaw(pipe); err == nil || Is(pipe) || !Is(master) {
		t.Error("a pipe was taken for a terminal, or a terminal not")
	}
}
