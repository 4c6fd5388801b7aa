package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"box/pkg/network"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// island is a host in a network namespace of its own, with an outside in
// another: the machine's own network sees nothing of what happens here.
//
//	outside 203.0.113.9, 198.51.100.1 ---- 198.51.100.2 host
type island struct {
	*host
	outside *os.File
}

const (
	islandHost    = "198.51.100.2"
	islandOutside = "198.51.100.1"
	internet      = "203.0.113.9"
)

// newIsland makes an island on which box has the image busybox. The test's
// goroutine, and what it starts, stand on it until the test ends.
func newIsland(t *testing.T) *island {
	t.Helper()
	requireRoot(t)
	require(t, "ip", "iptables", "nft")
	lockedHome(t)
	is := &island{host: newHost(t, "busybox")}
	is.box("pull", "-q", "busybox")
	is.outside = newNamespace(t)
	shore := newNamespace(t)
	enter(t, is.outside)
	ip(t, "link", "add", "shore", "type", "veth", "peer", "name", "up0", "netns", procPath(shore))
	ip(t, "addr", "add", islandOutside+"/24", "dev", "shore")
	ip(t, "addr", "add", internet+"/32", "dev", "lo")
	ip(t, "link", "set", "shore", "up")
	enter(t, shore)
	ip(t, "addr", "add", islandHost+"/24", "dev", "up0")
	ip(t, "link", "set", "up0", "up")
	ip(t, "route", "add", "default", "via", islandOutside)
	// A new namespace takes the setting from the machine; Docker drops only where
	// it has to switch forwarding on itself.
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	return is
}

// lockedHome keeps the goroutine on its thread until the test has ended, and
// brings the thread back then: it may be the one that keeps the mirror alive.
func lockedHome(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		enter(t, home)
		home.Close()
		runtime.UnlockOSThread()
	})
}

func newNamespace(t *testing.T) *os.File {
	t.Helper()
	ns, err := network.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

func procPath(f *os.File) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()) }

func enter(t *testing.T, ns *os.File) {
	t.Helper()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// outsideDo runs f as somebody outside.
func (is *island) outsideDo(f func()) {
	is.t.Helper()
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		is.t.Fatal(err)
	}
	defer here.Close()
	enter(is.t, is.outside)
	defer enter(is.t, here)
	f()
}

// page fetches / from a literal address on this thread, so in its namespace. An
// error is the answer too.
func page(addr string, wait time.Duration) string {
	c, err := net.DialTimeout("tcp4", addr, wait)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(wait))
	if _, err := io.WriteString(c, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return err.Error()
	}
	answer, err := io.ReadAll(c)
	if err != nil {
		return err.Error()
	}
	_, body, _ := strings.Cut(string(answer), "\r\n\r\n")
	return strings.TrimSpace(body)
}

// server starts a page in a container and waits until it is served there.
func (is *island) server(name, port string) {
	is.t.Helper()
	is.box("run", "-d", "--name", name, "-p", port+":80", "busybox", "sh", "-c",
		"mkdir /www && echo page of "+name+" > /www/index.html && exec httpd -f -h /www")
	is.box("exec", name, "sh", "-c", "until wget -qO- http://127.0.0.1/ >/dev/null 2>&1; do sleep 0.02; done")
}

// internetServes listens outside and answers one line to each connection.
func (is *island) internetServes() {
	is.t.Helper()
	is.outsideDo(func() {
		l, err := net.Listen("tcp4", internet+":80")
		if err != nil {
			is.t.Fatal(err)
		}
		is.t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					c.Read(make([]byte, 512))
					from, _, _ := net.SplitHostPort(c.RemoteAddr().String())
					fmt.Fprintf(c, "HTTP/1.0 200 OK\r\n\r\ninternet greets %s\n", from)
				}()
			}
		}()
	})
}

// open checks every way in and out of container name, which serves on port.
func (is *island) open(name, port string) {
	is.t.Helper()
	const patience = time.Minute // an answer ends it; a busy machine is slow
	want := "page of " + name
	for _, addr := range []string{"127.0.0.1", islandHost} {
		if got := page(addr+":"+port, patience); got != want {
			is.t.Errorf("from the host, %s:%s: %q, want %q", addr, port, got, want)
		}
	}
	is.outsideDo(func() {
		if got := page(islandHost+":"+port, patience); got != want {
			is.t.Errorf("from outside: %q, want %q", got, want)
		}
	})
	if got := is.box("run", "--rm", "busybox", "wget", "-qO-", "http://"+islandHost+":"+port+"/"); got != want {
		is.t.Errorf("from another container: %q, want %q", got, want)
	}
	if got := is.box("exec", name, "wget", "-qO-", "http://"+internet+"/"); got != "internet greets "+islandHost {
		is.t.Errorf("to the outside: %q", got)
	}
}

// startDocker starts dockerd on the island, with mounts and processes of its own,
// and waits until it serves. Its end is the end of its process namespace.
func (is *island) startDocker() {
	is.t.Helper()
	require(is.t, "dockerd", "containerd")
	dir, err := os.MkdirTemp("", "bxd")
	if err != nil {
		is.t.Fatal(err)
	}
	is.t.Cleanup(func() { os.RemoveAll(dir) })
	ready, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		is.t.Fatal(err)
	}
	defer ready.Close()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		is.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("sh", "-ec", `mount -t proc proc /proc; mount -t tmpfs tmpfs /run; mkdir /run/lock
		exec dockerd --storage-driver vfs --data-root "$0/data" --exec-root /run/docker --pidfile /run/docker.pid -H unix:///run/docker.sock`, dir)
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+filepath.Join(dir, "notify"))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Unshareflags: unix.CLONE_NEWNS, Cloneflags: unix.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		is.t.Fatal(err)
	}
	is.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	_ = ready.SetReadDeadline(time.Now().Add(time.Minute))
	buf := make([]byte, 256)
	if n, err := ready.Read(buf); err != nil || !strings.Contains(string(buf[:n]), "READY=1") {
		text, _ := os.ReadFile(log.Name())
		is.t.Fatalf("dockerd does not come up: %q %v\n%s", buf[:n], err, text)
	}
}

// iptables lists the filter table as its user would; it must stay readable.
func (is *island) iptables() string {
	is.t.Helper()
	out, err := exec.Command("iptables", "-S").CombinedOutput()
	if err != nil {
		is.t.Fatalf("iptables -S: %v\n%s", err, out)
	}
	return string(out)
}

// Scenario: beside a dockerd that drops what is forwarded, containers reach the
// outside and are reached, and Docker's rules are as before when they are gone.
func TestNetworkBesideDocker(t *testing.T) {
	is := newIsland(t)
	is.startDocker()
	before := is.iptables()
	if !strings.Contains(before, "-P FORWARD DROP") || !strings.Contains(before, "-N DOCKER-USER") {
		t.Fatalf("dockerd has not closed the forward chain:\n%s", before)
	}
	is.internetServes()
	is.server("web", "8080")
	is.open("web", "8080")
	if rules := is.iptables(); !strings.Contains(rules, "-A DOCKER-USER -i box") {
		t.Errorf("no rule of ours where Docker looks for users' rules:\n%s", rules)
	}
	is.box("rm", "-f", "web")
	is.nothingLeft()
	if after := is.iptables(); after != before {
		t.Errorf("rules before:\n%s\nafter:\n%s", before, after)
	}
}

// Scenario: dockerd comes up while containers run, and somebody closes the forward
// chain; the next command of box puts their way out right.
func TestNetworkWhenDockerComesLater(t *testing.T) {
	is := newIsland(t)
	is.internetServes()
	is.server("web", "8080")
	is.startDocker()
	if out, err := exec.Command("iptables", "-P", "FORWARD", "DROP").CombinedOutput(); err != nil {
		t.Fatalf("iptables: %v\n%s", err, out)
	}
	is.box("ps")
	is.open("web", "8080")
}

// Scenario: a port published on 127.0.0.1 is the host's alone.
func TestLoopbackPortStaysOnTheHost(t *testing.T) {
	is := newIsland(t)
	is.server("web", "127.0.0.1:8080")
	if got := page("127.0.0.1:8080", time.Minute); got != "page of web" {
		t.Errorf("from the host: %q", got)
	}
	is.outsideDo(func() {
		if got := page(islandHost+":8080", time.Second); strings.Contains(got, "page of web") {
			t.Errorf("from outside: %q", got)
		}
	})
}

// Scenario: containers take over the MTU of the host's way out.
func TestContainersTakeTheUplinksMTU(t *testing.T) {
	is := newIsland(t)
	link, err := netlink.LinkByName("up0")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetMTU(link, 1380); err != nil {
		t.Fatal(err)
	}
	if got := is.box("run", "--rm", "busybox", "cat", "/sys/class/net/eth0/mtu"); got != "1380" {
		t.Errorf("MTU %s in the container, 1380 on the uplink", got)
	}
}
