package netdev

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"box/internal/testkit"
	"box/pkg/launch"
)

func TestLoopbackComesUp(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes a network namespace")
	}
	p := &launch.Plan{ReportFD: 3}
	AddLoopback(p)
	p.Add(launch.Step{Name: "exec", Call: launch.Execve, Args: launch.Args{
		launch.Text("/bin/cat"), launch.Strings([]string{"cat", "/proc/self/net/if_inet6", "/proc/self/net/fib_trie"}), launch.Nil,
	}})
	var attr launch.Attr
	attr.Sys.Cloneflags = unix.CLONE_NEWNET
	out, _, failure := testkit.RunPlan(t, p, attr)
	if failure != nil {
		t.Fatal(failure)
	}
	if !strings.Contains(out, "127.0.0.1") {
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
