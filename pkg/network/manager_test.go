package network

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"box/internal/atomicfile"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
)

func TestContainerReachesOutsideMasqueraded(t *testing.T) {
	w := newWorld(t)
	ns, lease := w.attach("aaaa")
	w.serve(w.outside, "tcp", internetAddr+":80", "internet")
	w.serve(w.outside, "udp", internetAddr+":53", "dns")
	w.expect(ns, "tcp", internetAddr+":80", "internet "+hostAddr)
	w.expect(ns, "udp", internetAddr+":53", "dns "+hostAddr)
	w.serve(w.host, "tcp", lease.Gateway.String()+":81", "host")
	w.expect(ns, "tcp", lease.Gateway.String()+":81", "host "+lease.IP.String())
}

func TestPublishedPorts(t *testing.T) {
	for _, proto := range []string{"tcp", "udp"} {
		t.Run(proto, func(t *testing.T) {
			w := newWorld(t)
			p := tcp(8080, 80)
			if p.Proto = proto; proto == "udp" {
				p = udp(8080, 80)
			}
			web, lease := w.attach("web", p)
			peer, peerLease := w.attach("peer")
			w.serve(web, proto, ":80", "web")
			gw, self := lease.Gateway.String(), lease.IP.String()
			w.expect(w.host, proto, "127.0.0.1:8080", "web "+gw)
			w.expect(w.host, proto, hostAddr+":8080", "web "+hostAddr)
			w.expect(w.outside, proto, hostAddr+":8080", "web "+outsideAddr)
			w.expect(w.host, proto, self+":80", "web "+gw)
			w.expect(peer, proto, self+":80", "web "+peerLease.IP.String())
			w.expect(peer, proto, hostAddr+":8080", "web "+gw)
			w.expect(peer, proto, gw+":8080", "web "+gw)
			w.expect(web, proto, hostAddr+":8080", "web "+gw)
		})
	}
}

func TestPortBoundToLoopbackIsNotReachableFromOutside(t *testing.T) {
	w := newWorld(t)
	web, _ := w.attach("web", on("127.0.0.1", tcp(8080, 80)), on(hostAddr, tcp(9090, 90)))
	peer, _ := w.attach("peer")
	w.serve(web, "tcp", ":80", "web")
	w.serve(web, "tcp", ":90", "other")
	w.expect(w.host, "tcp", "127.0.0.1:8080", "web "+gateway(leaseSubnet(t, w)).String())
	w.refuse(w.outside, "tcp", hostAddr+":8080", "web")
	w.refuse(peer, "tcp", hostAddr+":8080", "web")
	w.expect(w.outside, "tcp", hostAddr+":9090", "other "+outsideAddr)
	w.refuse(w.host, "tcp", "127.0.0.1:9090", "other")
}

// leaseSubnet is the subnet in use.
func leaseSubnet(t *testing.T, w *world) (p netip.Prefix) {
	t.Helper()
	w.in(w.host, func() {
		st, err := loadState(w.m.statePath())
		w.must(err)
		p = st.Subnet
	})
	return p
}

func TestNeighbourWithRouteReachesNothingUnpublished(t *testing.T) {
	w := newWorld(t)
	web, lease := w.attach("web", on("127.0.0.1", tcp(8080, 80)))
	w.serve(web, "tcp", ":80", "web")
	w.in(w.outside, func() {
		w.must(netlink.RouteAdd(&netlink.Route{Dst: ipNet(lease.Subnet), Gw: net.ParseIP(hostAddr)}))
	})
	w.refuse(w.outside, "tcp", lease.IP.String()+":80", "web")
}

// A host on which somebody has switched route_localnet on takes packets to
// 127.0.0.1 from the wire (CVE-2020-8558).
func TestLoopbackPortIsClosedEvenWhereLoopbackIsRouted(t *testing.T) {
	w := newWorld(t)
	web, _ := w.attach("web", on("127.0.0.1", tcp(8080, 80)))
	w.serve(web, "tcp", ":80", "web")
	w.in(w.host, func() { w.must(writeSysctl("ipv4/conf/up0/route_localnet", "1")) })
	w.routeLoopbackTo(w.outside, "down0", hostAddr)
	w.refuse(w.outside, "tcp", "127.0.0.1:8080", "web")
}

func TestContainerCannotReachLoopbackOfHost(t *testing.T) {
	w := newWorld(t)
	w.attach("web", tcp(8080, 80)) // switches route_localnet on
	evil, lease := w.attach("evil")
	w.serve(w.host, "tcp", "127.0.0.1:631", "cups")
	w.routeLoopbackTo(evil, "eth0", lease.Gateway.String())
	w.refuse(evil, "tcp", "127.0.0.1:631", "cups")
}

// routeLoopbackTo makes ns send packets for 127.0.0.1 to via, as somebody with
// raw sockets could.
func (w *world) routeLoopbackTo(ns *os.File, link, via string) {
	w.t.Helper()
	w.in(ns, func() {
		w.must(writeSysctl("ipv4/conf/"+link+"/route_localnet", "1"))
		w.must(writeSysctl("ipv4/conf/all/route_localnet", "1"))
		lo, err := netlink.LinkByName("lo")
		w.must(err)
		l, err := netlink.LinkByName(link)
		w.must(err)
		w.must(netlink.AddrDel(lo, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("127.0.0.1/8"))}))
		w.must(netlink.RouteAdd(&netlink.Route{
			LinkIndex: l.Attrs().Index, Dst: ipNet(netip.MustParsePrefix("127.0.0.0/8")), Gw: net.ParseIP(via),
		}))
	})
}

func TestContainerCannotSpoofItsAddress(t *testing.T) {
	w := newWorld(t)
	evil, _ := w.attach("evil")
	w.serve(w.outside, "udp", internetAddr+":53", "dns")
	heard := make(chan string, 1)
	w.in(w.outside, func() {
		c, err := net.ListenPacket("udp4", internetAddr+":99")
		w.must(err)
		t.Cleanup(func() { c.Close() })
		go func() {
			buf := make([]byte, 8)
			if _, from, err := c.ReadFrom(buf); err == nil {
				heard <- host(from)
			}
		}()
	})
	w.in(evil, func() {
		w.address("eth0", "192.168.77.7/32")
		c, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.ParseIP("192.168.77.7")}, &net.UDPAddr{IP: net.ParseIP(internetAddr), Port: 99})
		w.must(err)
		defer c.Close()
		c.Write([]byte("!"))
	})
	w.expect(evil, "udp", internetAddr+":53", "dns "+hostAddr) // later than the spoofed packet
	select {
	case from := <-heard:
		t.Errorf("a packet from %s got out", from)
	default:
	}
}

func TestLinksOfAContainer(t *testing.T) {
	w := newWorld(t)
	ns, lease := w.attach("aaaa")
	if lease.MTU != uplinkMTU {
		t.Errorf("MTU %d, want the uplink's %d", lease.MTU, uplinkMTU)
	}
	w.in(ns, func() {
		eth := w.link("eth0")
		if eth.MTU != uplinkMTU || eth.HardwareAddr.String() != lease.MAC.String() {
			t.Errorf("eth0 has MTU %d and %s, want %d and %s", eth.MTU, eth.HardwareAddr, uplinkMTU, lease.MAC)
		}
		w.expectIPv6Off("eth0")
		if got := sysctl(t, "ipv6/conf/lo/disable_ipv6"); got != "0" {
			t.Errorf("IPv6 on lo: disable_ipv6 is %s, want 0", got)
		}
	})
	w.in(w.host, func() {
		if br := w.link(lease.Bridge); br.MTU != uplinkMTU {
			t.Errorf("bridge has MTU %d, want %d", br.MTU, uplinkMTU)
		}
		w.expectIPv6Off(lease.Bridge)
		w.expectIPv6Off(lease.Veth)
		if got := sysctl(t, "ipv4/conf/"+lease.Bridge+"/route_localnet"); got != "0" {
			t.Errorf("route_localnet is %s without published ports", got)
		}
	})
}

func (w *world) link(name string) *netlink.LinkAttrs {
	w.t.Helper()
	l, err := netlink.LinkByName(name)
	w.must(err)
	return l.Attrs()
}

// expectIPv6Off checks the sysctl and that the link has no IPv6 address.
func (w *world) expectIPv6Off(name string) {
	w.t.Helper()
	if got := sysctl(w.t, "ipv6/conf/"+name+"/disable_ipv6"); got != "1" {
		w.t.Errorf("disable_ipv6 on %s is %s", name, got)
	}
	l, err := netlink.LinkByName(name)
	w.must(err)
	addrs, err := settled(func() ([]netlink.Addr, error) { return netlink.AddrList(l, netlink.FAMILY_V6) })
	w.must(err)
	if len(addrs) > 0 {
		w.t.Errorf("%s has IPv6 addresses: %v", name, addrs)
	}
}

func sysctl(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile("/proc/sys/net/" + path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

func TestNothingIsLeftBehind(t *testing.T) {
	w := newWorld(t)
	a, _ := w.attach("aaaa", tcp(8080, 80), udp(53, 53), on("127.0.0.1", tcp(81, 81)))
	b, _ := w.attach("bbbb")
	if len(w.left()) == 0 {
		t.Fatal("the check for leftovers sees nothing of two containers")
	}
	w.detach("aaaa")
	w.detach("aaaa")
	w.serve(w.outside, "tcp", internetAddr+":80", "internet")
	w.expect(b, "tcp", internetAddr+":80", "internet "+hostAddr)
	w.detach("bbbb")
	w.end(a)
	w.end(b)
	w.expectNothingLeft()
}

func TestDetachUnpublishes(t *testing.T) {
	w := newWorld(t)
	ns, _ := w.attach("aaaa", tcp(8080, 80))
	w.attach("bbbb")
	w.serve(ns, "tcp", ":80", "web")
	w.expect(w.outside, "tcp", hostAddr+":8080", "web "+outsideAddr)
	w.detach("aaaa")
	w.refuse(w.outside, "tcp", hostAddr+":8080", "web")
	next, _ := w.attach("cccc", tcp(8080, 80))
	w.serve(next, "tcp", ":80", "next")
	w.expect(w.outside, "tcp", hostAddr+":8080", "next "+outsideAddr)
}

func TestSettleLeavesWhatIsInUse(t *testing.T) {
	w := newWorld(t)
	ns, _ := w.attach("aaaa")
	w.in(w.host, func() { w.must(w.m.Settle(t.Context(), 0)) })
	w.serve(w.outside, "tcp", internetAddr+":80", "internet")
	w.expect(ns, "tcp", internetAddr+":80", "internet "+hostAddr)
	w.detach("aaaa")
	w.end(ns)
	w.in(w.host, func() { w.link(poolBridge(t, w)) }) // still there: nobody has settled
	w.expectNothingLeft()
}

// Whoever settles keeps sweeps from taking the idle bridge; without him, they take
// it at once.
func TestSweepLeavesTheIdleBridgeToWhoeverSettles(t *testing.T) {
	w := newWorld(t)
	ns, _ := w.attach("aaaa")
	w.detach("aaaa")
	w.end(ns)
	sweep := func() {
		w.in(w.host, func() { w.must(w.m.Sweep(t.Context(), func(string) bool { return true })) })
	}
	lock, err := atomicfile.LockShared(w.m.settlingPath())
	w.must(err)
	sweep()
	if left := w.left(); len(left) == 0 {
		t.Error("the bridge is gone although somebody settles")
	}
	w.must(lock.Unlock())
	sweep()
	w.untilNoVeth()
	if left := w.left(); len(left) > 0 {
		t.Errorf("nobody settles, and a sweep leaves %v", left)
	}
}

func poolBridge(t *testing.T, w *world) string {
	t.Helper()
	st, err := loadState(w.m.statePath())
	if err != nil {
		t.Fatal(err)
	}
	return st.Bridge
}

func TestRulesComeBackAfterFlush(t *testing.T) {
	for _, how := range []string{"sweep", "attach", "detach"} {
		t.Run(how, func(t *testing.T) {
			w := newWorld(t)
			web, _ := w.attach("web", tcp(8080, 80))
			w.attach("other")
			w.serve(web, "tcp", ":80", "web")
			w.in(w.host, func() {
				c := &nftables.Conn{}
				c.FlushRuleset()
				w.must(c.Flush())
			})
			w.refuse(w.outside, "tcp", hostAddr+":8080", "web")
			switch how {
			case "sweep":
				w.in(w.host, func() { w.must(w.m.Sweep(t.Context(), func(string) bool { return true })) })
			case "attach":
				w.attach("third", tcp(8081, 80))
			case "detach":
				w.detach("other")
			}
			w.expect(w.outside, "tcp", hostAddr+":8080", "web "+outsideAddr)
		})
	}
}

func TestAttachTakesPortsOverFromTheDead(t *testing.T) {
	w := newWorld(t)
	dead, _ := w.attach("dead", tcp(8080, 80))
	w.end(dead) // killed: no Detach
	web, _ := w.attach("web", tcp(8080, 80))
	w.serve(web, "tcp", ":80", "web")
	w.expect(w.outside, "tcp", hostAddr+":8080", "web "+outsideAddr)
	w.in(w.host, func() { w.must(w.m.Sweep(t.Context(), func(id string) bool { return id == "web" })) })
	w.expect(w.outside, "tcp", hostAddr+":8080", "web "+outsideAddr)
}

func TestAttachAgainReplacesLease(t *testing.T) {
	w := newWorld(t)
	old, _ := w.attach("web", tcp(8080, 80))
	w.end(old)
	web, _ := w.attach("web", tcp(8080, 80))
	w.serve(web, "tcp", ":80", "web")
	w.expect(w.outside, "tcp", hostAddr+":8080", "web "+outsideAddr)
	w.detach("web")
	w.end(web)
	w.expectNothingLeft()
}

func TestFailedAttachTakesEverythingBack(t *testing.T) {
	w := newWorld(t)
	ns := newNS(t)
	w.in(ns, func() { // eth0 is there already, so the pair cannot be made
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "eth0"
		w.must(netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}))
	})
	w.in(w.host, func() {
		_, err := w.m.Attach(t.Context(), ns, Endpoint{ContainerID: "aaaa", Ports: []PortMapping{tcp(8080, 80)}})
		if err == nil {
			t.Error("Attach succeeded although eth0 exists")
		}
	})
	w.expectNothingLeft()
}

func TestTwoRunRootsDoNotMeet(t *testing.T) {
	w := newWorld(t)
	first, firstLease := w.attach("aaaa", tcp(8080, 80))
	w.serve(first, "tcp", ":80", "first")
	mine := w.m
	w.in(w.host, func() {
		var err error
		w.m, err = Open(t.TempDir(), t.TempDir())
		w.must(err)
	})
	second, secondLease := w.attach("aaaa", tcp(8081, 80))
	w.serve(second, "tcp", ":80", "second")
	if firstLease.Bridge == secondLease.Bridge || firstLease.Subnet == secondLease.Subnet {
		t.Errorf("both run roots have %s %s", firstLease.Bridge, firstLease.Subnet)
	}
	w.expect(w.outside, "tcp", hostAddr+":8080", "first "+outsideAddr)
	w.expect(w.outside, "tcp", hostAddr+":8081", "second "+outsideAddr)
	w.expect(second, "tcp", hostAddr+":8080", "first "+firstLease.Gateway.String())
	w.refuse(second, "tcp", firstLease.IP.String()+":80", "first")
	w.detach("aaaa")
	w.in(w.host, func() { w.must(w.m.Settle(t.Context(), 0)) })
	w.expect(w.outside, "tcp", hostAddr+":8080", "first "+outsideAddr)
	w.m = mine
	w.detach("aaaa")
	w.end(first)
	w.end(second)
	w.expectNothingLeft()
}

func TestAttachManyInSequence(t *testing.T) {
	w := newWorld(t)
	for i := range 200 {
		id := fmt.Sprintf("c%d", i)
		ns, lease := w.attach(id, tcp(8080, 80))
		if i%50 == 0 {
			w.serve(ns, "tcp", ":80", id)
			w.expect(w.outside, "tcp", hostAddr+":8080", id+" "+outsideAddr)
			_ = lease
		}
		w.detach(id)
		w.end(ns)
	}
	w.expectNothingLeft()
}

func TestAttachManyAtOnce(t *testing.T) {
	w := newWorld(t)
	const n = 20
	spaces := make([]*os.File, n)
	for i := range spaces {
		spaces[i] = newNS(t)
	}
	errs := make(chan error, n)
	for i := range n {
		go func() {
			errs <- inNamespace(w.host, func() error {
				port := tcp(uint16(8000+i), 80)
				_, err := w.m.Attach(t.Context(), spaces[i], Endpoint{ContainerID: fmt.Sprintf("c%d", i), Ports: []PortMapping{port}})
				return err
			})
		}()
	}
	for range n {
		w.must(<-errs)
	}
	for i, ns := range spaces {
		name := fmt.Sprintf("c%d", i)
		w.serve(ns, "tcp", ":80", name)
		w.expect(w.outside, "tcp", fmt.Sprintf("%s:%d", hostAddr, 8000+i), name+" "+outsideAddr)
	}
	for i, ns := range spaces {
		w.detach(fmt.Sprintf("c%d", i))
		w.end(ns)
	}
	w.expectNothingLeft()
}

// A run root that somebody has removed leaves a bridge and rules that no sweep of
// its own can reach.
func TestOrphansAreRemoved(t *testing.T) {
	w := newWorld(t)
	w.run("iptables", "-P", "FORWARD", "DROP")
	mine := w.m
	lost := t.TempDir()
	w.in(w.host, func() {
		var err error
		w.m, err = Open(t.TempDir(), lost)
		w.must(err)
	})
	ns, _ := w.attach("aaaa", tcp(8080, 80))
	lostManager := w.m
	defer lostManager.Close()
	w.m = mine
	w.must(os.RemoveAll(lost))
	other, _ := w.attach("bbbb")
	w.detach("bbbb")
	w.in(w.host, func() { w.must(w.m.Settle(t.Context(), 0)) })
	if left := w.left(); len(left) == 0 {
		t.Error("a bridge that still has a container was taken for an orphan")
	}
	w.end(ns)
	w.end(other)
	w.untilNoVeth()
	next, _ := w.attach("cccc")
	w.detach("cccc")
	w.end(next)
	w.expectNothingLeft()
	if rules := w.run("iptables", "-S"); strings.Contains(rules, "box") {
		t.Errorf("accept rules stay:\n%s", rules)
	}
}
