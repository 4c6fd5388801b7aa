package network

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ownerEnv makes the test binary an owner of containers: it attaches and detaches
// in the network namespace that is its file 3, until it is killed.
const ownerEnv = "BOX_TEST_NETWORK_OWNER"

func TestMain(m *testing.M) {
	if roots := os.Getenv(ownerEnv); roots != "" {
		fmt.Fprintln(os.Stderr, ownerLoop(roots))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// ownerLoop comes and goes with one container. It says "ready" on stdout before it
// begins.
func ownerLoop(root string) error {
	runtime.LockOSThread() // setns is for this thread alone
	if err := unix.Setns(3, unix.CLONE_NEWNET); err != nil {
		return err
	}
	m, err := Open(root, filepath.Join(root, "run"))
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for i := 0; ; i++ {
		ns, err := NewNamespace()
		if err != nil {
			return err
		}
		ep := Endpoint{ContainerID: fmt.Sprintf("c%d", i%3), Ports: []PortMapping{tcp(8080, 80), udp(53, 53)}}
		if _, err := m.Attach(context.Background(), ns, ep); err != nil {
			return err
		}
		if i%3 != 0 {
			if err := m.Detach(context.Background(), ep.ContainerID); err != nil {
				return err
			}
		}
		ns.Close()
		if err := m.Settle(context.Background(), 0); err != nil {
			return err
		}
	}
}

// Owners are killed at any point of coming and going; one sweep afterwards leaves
// nothing, and a living neighbour is not touched.
func TestNothingIsLeftAfterKill(t *testing.T) {
	w := newWorld(t)
	w.runroot = filepath.Join(w.root, "run")
	w.in(w.host, func() {
		var err error
		w.m, err = Open(w.root, w.runroot)
		w.must(err)
	})
	for round := range 40 {
		w.killOwner(round)
		ns, _ := w.attach("neighbour", tcp(8081, 81))
		w.serve(ns, "tcp", ":81", "neighbour")
		w.in(w.host, func() { w.must(w.m.Sweep(t.Context(), func(id string) bool { return id == "neighbour" })) })
		w.expect(w.outside, "tcp", hostAddr+":8081", "neighbour "+outsideAddr)
		w.expectOnePort(round)
		w.detach("neighbour")
		w.end(ns)
		w.expectNothingLeft()
	}
}

// Whoever made the bridge may have been killed before it had an address and was up;
// what it has noted says only that there is one.
func TestHalfMadeBridgeIsFinished(t *testing.T) {
	w := newWorld(t)
	ns, _ := w.attach("first")
	w.detach("first")
	w.end(ns)
	w.in(w.host, func() {
		st, err := loadState(w.m.statePath())
		w.must(err)
		br, err := netlink.LinkByName(st.Bridge)
		w.must(err)
		addrs, err := settled(func() ([]netlink.Addr, error) { return netlink.AddrList(br, netlink.FAMILY_V4) })
		w.must(err)
		for i := range addrs {
			w.must(netlink.AddrDel(br, &addrs[i]))
		}
		w.must(netlink.LinkSetDown(br))
	})
	ns, _ = w.attach("second", tcp(8081, 81))
	w.serve(ns, "tcp", ":81", "second")
	w.expect(w.outside, "tcp", hostAddr+":8081", "second "+outsideAddr)
	w.detach("second")
	w.end(ns)
	w.expectNothingLeft()
}

// expectOnePort looks into the map: the dead owner's port must not be there.
func (w *world) expectOnePort(round int) {
	w.t.Helper()
	w.in(w.host, func() {
		st, err := loadState(w.m.statePath())
		w.must(err)
		fw, err := openFirewall()
		w.must(err)
		defer fw.close()
		got, err := fw.GetSetElements(portMap(st.site, mapPorts))
		w.must(err)
		if len(got) != 1 {
			w.t.Errorf("round %d: %d published ports in the map, want the neighbour's alone", round, len(got))
		}
	})
}

// killOwner starts an owner and kills it after a little while that differs from
// round to round.
func (w *world) killOwner(round int) {
	w.t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), ownerEnv+"="+w.root)
	cmd.ExtraFiles = []*os.File{w.host}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	w.must(err)
	w.must(cmd.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		w.t.Fatalf("the owner says %q: %v", line, err)
	}
	burn(round * 1_500_000)
	w.must(cmd.Process.Signal(syscall.SIGKILL))
	io.Copy(io.Discard, out)
	cmd.Wait()
}

var burnt int

// burn passes some time; where exactly the kill hits does not matter, only that
// it hits different places.
func burn(n int) {
	for i := range n {
		burnt += i % 7
	}
}
