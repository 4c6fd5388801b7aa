package netdev

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"box/pkg/launch"
)

func TestLoopbackComesUp(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes a network namespace")
	}
	p := &launch.Plan{ReportFD: 3}
	AddLoopback(p)
	p.Add(launch.Step{Name: "exec", Call: launch.Execve, Args: []launch.Arg{
		launch.Text("/bin/cat"), launch.Strings([]string{"cat", "/proc/self/net/if_inet6", "/proc/self/net/fib_trie"}), launch.Nil,
	}})
	prog, err := launch.NewProgram(p)
	if err != nil {
		t.Fatal(err)
	}
	defer prog.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	attr := launch.Attr{Files: []*os.File{nil, w, w}}
	attr.Sys.Cloneflags = unix.CLONE_NEWNET
	proc, err := prog.Start(attr)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := proc.Report(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if _, err := proc.Wait(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(string(out), "127.0.0.1") {
		t.Errorf("no 127.0.0.1 in the new namespace:\n%s", out)
	}
}

func TestLoopbackPlan(t *testing.T) {
	p := &launch.Plan{ReportFD: 3}
	AddLoopback(p)
	const want = `ioctl($socket, SIOCSIFFLAGS, {name="lo", flags=IFF_UP})`
	if !strings.Contains(p.String(), want) || p.Len() != 2 {
		t.Errorf("plan lacks %s:\n%s", want, p)
	}
}
