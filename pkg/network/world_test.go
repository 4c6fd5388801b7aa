package network

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
)

// world is a host with an outside, both in network namespaces of their own:
//
//	outside 203.0.113.9 (lo), 198.51.100.1 ---- 198.51.100.2 host
//
// The host's default route leads outside. The test machine's own network is not
// touched.
type world struct {
	t             *testing.T
	host, outside *os.File
	root, runroot string
	m             *Manager
	// servers are what listens, by namespace: a socket keeps its namespace alive.
	servers map[*os.File][]io.Closer
}

const (
	hostAddr     = "198.51.100.2"
	outsideAddr  = "198.51.100.1"
	internetAddr = "203.0.113.9"
	uplinkMTU    = 1420
	callTimeout  = time.Minute // for what must come: a busy machine is slow
	// refusedAfter bounds the wait for an answer that must not come, where the
	// packet is dropped rather than rejected.
	refusedAfter = time.Second
)

func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("makes network namespaces: needs root")
	}
	w := &world{t: t, host: newNS(t), outside: newNS(t), root: t.TempDir(), runroot: t.TempDir()}
	w.servers = map[*os.File][]io.Closer{}
	t.Cleanup(func() {
		for ns := range w.servers {
			w.end(ns)
		}
		w.m.Close()
	})
	w.join()
	w.in(w.host, func() {
		var err error
		if w.m, err = Open(w.root, w.runroot); err != nil {
			t.Fatal(err)
		}
	})
	return w
}

func newNS(t *testing.T) *os.File {
	t.Helper()
	ns, err := NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

// in runs f in ns. f must not end the test's goroutine in any other way than by
// t.Fatal, and may not start goroutines that open sockets.
func (w *world) in(ns *os.File, f func()) {
	w.t.Helper()
	if err := inNamespace(ns, func() error { f(); return nil }); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// join makes the link between host and outside.
func (w *world) join() {
	w.t.Helper()
	w.in(w.host, func() {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = "up0", uplinkMTU
		w.must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "down0", PeerNamespace: netlink.NsFd(int(w.outside.Fd()))}))
		w.address("up0", hostAddr+"/24")
		w.must(netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(outsideAddr)}))
	})
	w.in(w.outside, func() {
		w.address("down0", outsideAddr+"/24")
		w.address("lo", internetAddr+"/32")
		w.must(writeSysctl("ipv4/ip_forward", "1"))
	})
}

// address gives addr to link and sets it up.
func (w *world) address(link, addr string) {
	w.t.Helper()
	l, err := netlink.LinkByName(link)
	w.must(err)
	a, err := netlink.ParseAddr(addr)
	w.must(err)
	w.must(netlink.AddrAdd(l, a))
	w.must(netlink.LinkSetUp(l))
}

// attach makes a container's namespace and attaches it.
func (w *world) attach(id string, ports ...PortMapping) (*os.File, *Lease) {
	w.t.Helper()
	ns := newNS(w.t)
	var lease *Lease
	w.in(w.host, func() {
		var err error
		lease, err = w.m.Attach(w.t.Context(), ns, Endpoint{ContainerID: id, Ports: ports})
		w.must(err)
	})
	return ns, lease
}

func (w *world) detach(id string) {
	w.t.Helper()
	w.in(w.host, func() { w.must(w.m.Detach(w.t.Context(), id)) })
}

// end closes a container's namespace and what listens there.
func (w *world) end(ns *os.File) {
	for _, c := range w.servers[ns] {
		c.Close()
	}
	delete(w.servers, ns)
	ns.Close()
}

// serve answers on addr in ns, once per connection or datagram, with its name and
// the address it was called from.
func (w *world) serve(ns *os.File, proto, addr, name string) {
	w.t.Helper()
	w.in(ns, func() {
		if proto == "udp" {
			c, err := net.ListenPacket("udp4", addr)
			w.must(err)
			w.servers[ns] = append(w.servers[ns], c)
			go answerPackets(c, name)
			return
		}
		l, err := net.Listen("tcp4", addr)
		w.must(err)
		w.servers[ns] = append(w.servers[ns], l)
		go answerConnections(l, name)
	})
}

func answerConnections(l net.Listener, name string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		fmt.Fprintf(c, "%s %s", name, host(c.RemoteAddr()))
		c.Close()
	}
}

func answerPackets(c net.PacketConn, name string) {
	buf := make([]byte, 64)
	for {
		_, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		c.WriteTo([]byte(name+" "+host(from)), from)
	}
}

func host(a net.Addr) string { return netip.MustParseAddrPort(a.String()).Addr().String() }

// call asks addr from ns and returns the answer, or the error's text.
func (w *world) call(ns *os.File, proto, addr string, wait time.Duration) (answer string) {
	w.t.Helper()
	w.in(ns, func() {
		c, err := net.DialTimeout(proto+"4", addr, wait)
		if err != nil {
			answer = err.Error()
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(wait))
		if proto == "udp" {
			c.Write([]byte("?"))
		}
		buf := make([]byte, 64)
		n, err := c.Read(buf)
		if answer = string(buf[:n]); err != nil && err != io.EOF {
			answer = err.Error()
		}
	})
	return answer
}

// expect calls and compares the answer.
func (w *world) expect(ns *os.File, proto, addr, want string) {
	w.t.Helper()
	if got := w.call(ns, proto, addr, callTimeout); got != want {
		w.t.Errorf("call %s %s: %q, want %q", proto, addr, got, want)
	}
}

// refuse calls and expects no answer of server name.
func (w *world) refuse(ns *os.File, proto, addr, name string) {
	w.t.Helper()
	if got := w.call(ns, proto, addr, refusedAfter); strings.HasPrefix(got, name) {
		w.t.Errorf("call %s %s reached %q", proto, addr, got)
	}
}

// left lists what of box is on the host: links, tables, rules of ours in others'
// chains, and the state file.
func (w *world) left() (out []string) {
	w.t.Helper()
	w.in(w.host, func() {
		links, err := settled(netlink.LinkList)
		w.must(err)
		for _, l := range links {
			if n := l.Attrs().Name; n != "lo" && n != "up0" && !strings.HasPrefix(n, "docker") {
				out = append(out, "link "+n)
			}
		}
		c := &nftables.Conn{}
		chains, err := c.ListChains()
		w.must(err)
		for _, ch := range chains {
			if strings.HasPrefix(ch.Table.Name, "box") {
				out = append(out, "chain "+ch.Table.Name+" "+ch.Name)
			}
			rules, err := c.GetRules(ch.Table, ch)
			w.must(err)
			for _, r := range rules {
				if strings.Contains(string(r.UserData), "box") {
					out = append(out, "rule in "+ch.Table.Name+" "+ch.Name)
				}
			}
		}
	})
	if _, err := os.Lstat(filepath.Join(w.runroot, "network", "state.json")); err == nil {
		out = append(out, "state.json")
	}
	return out
}

// expectNothingLeft settles and waits until the kernel has taken away what it
// removes by itself: a link whose namespace has ended.
func (w *world) expectNothingLeft() {
	w.t.Helper()
	w.waitFor("nothing is left", func() []string {
		w.in(w.host, func() { w.must(w.m.Settle(w.t.Context(), 0)) })
		return w.left()
	})
}

// untilNoVeth waits until the kernel has removed the links of ended namespaces.
func (w *world) untilNoVeth() {
	w.t.Helper()
	w.waitFor("no veth is left", func() []string {
		return slices.DeleteFunc(w.left(), func(s string) bool { return !strings.HasPrefix(s, "link veth") })
	})
}

// waitFor looks again after each change of the host's links until left returns
// nothing.
func (w *world) waitFor(what string, left func() []string) {
	w.t.Helper()
	events, stop := make(chan netlink.LinkUpdate, 1024), make(chan struct{})
	defer close(stop)
	w.in(w.host, func() { w.must(netlink.LinkSubscribe(events, stop)) })
	deadline := time.After(callTimeout)
	for now := left(); len(now) > 0; now = left() {
		select {
		case <-events:
		case <-deadline: // the last change may have been none of a link
			if now = left(); len(now) > 0 {
				w.t.Errorf("wait until %s: %v", what, now)
			}
			return
		}
	}
}

func tcp(hostPort, containerPort uint16) PortMapping {
	return PortMapping{HostPort: hostPort, ContainerPort: containerPort, Proto: "tcp"}
}

func udp(hostPort, containerPort uint16) PortMapping {
	return PortMapping{HostPort: hostPort, ContainerPort: containerPort, Proto: "udp"}
}

func on(ip string, p PortMapping) PortMapping {
	p.HostIP = netip.MustParseAddr(ip)
	return p
}
