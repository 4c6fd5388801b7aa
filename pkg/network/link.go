package network

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"box/internal/errdefs"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// links speaks rtnetlink in the host's namespace.
type links struct{ *netlink.Handle }

func openLinks() (links, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return links{}, fmt.Errorf("open netlink: %w", err)
	}
	return links{h}, nil
}

// dumpTries bounds settled: a host on which links come and go without end is to get
// an error, not a hang.
const dumpTries = 50

// settled lists until nothing came or went while the kernel wrote the list: it marks
// one that may be wrong (NLM_F_DUMP_INTR), and other engines make links at any time.
func settled[T any](list func() ([]T, error)) (all []T, err error) {
	for range dumpTries {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}

// ownBridge looks for the bridge name with the MAC address mac. It gives nil if
// there is none, and an error of class ErrConflict if the name is somebody
// else's.
func (l links) ownBridge(name string, mac net.HardwareAddr) (netlink.Link, error) {
	link, err := l.LinkByName(name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for bridge %s: %w", name, err)
	}
	if link.Type() != "bridge" || !bytes.Equal(link.Attrs().HardwareAddr, mac) {
		return nil, errdefs.New(errdefs.ErrConflict, "use bridge %s: a link of that name belongs to somebody else", name)
	}
	return link, nil
}

// makeBridge makes the bridge of s and sets it up. Its own MAC address keeps it
// from taking over that of each port that comes and goes; its alias tells whose it
// is.
func (l links) makeBridge(s site, mac net.HardwareAddr, mtu int, runroot string) (index int, err error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.MTU = s.Bridge, mac, mtu
	br := &netlink.Bridge{LinkAttrs: attrs}
	if err := l.LinkAdd(br); err != nil {
		return 0, fmt.Errorf("make bridge %s: %w", s.Bridge, err)
	}
	return br.Index, l.furnishBridge(s, br, runroot)
}

// furnishBridge gives the bridge what it lacks. A bridge that is up lacks nothing:
// that comes last, so whoever finds one that is not has found one whose maker was
// killed.
func (l links) furnishBridge(s site, br netlink.Link, runroot string) error {
	if br.Attrs().Flags&net.FlagUp != 0 {
		return nil
	}
	if err := l.LinkSetAlias(br, aliasPrefix+runroot); err != nil {
		return fmt.Errorf("set alias of bridge %s: %w", s.Bridge, err)
	}
	if err := muteIPv6(s.Bridge); err != nil {
		return err
	}
	addr := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(gateway(s.Subnet), s.Subnet.Bits()))}
	if err := l.AddrReplace(br, addr); err != nil {
		return fmt.Errorf("give address %s to bridge %s: %w", addr.IPNet, s.Bridge, err)
	}
	if err := l.LinkSetUp(br); err != nil {
		return fmt.Errorf("set bridge %s up: %w", s.Bridge, err)
	}
	return nil
}

// muteIPv6 switches IPv6 off on a link of the thread's namespace: no link-local
// address, no router advertisement believed (CVE-2020-10749, CVE-2020-13401).
func muteIPv6(link string) error {
	return writeSysctl("ipv6/conf/"+link+"/disable_ipv6", "1")
}

// removeBridge removes the bridge and, with it, the addresses and routes on it.
// It takes the kernel 20 to 50 ms (two RCU grace periods, one of them with the
// lock of all links held), which is why nobody waits for it: see Settle.
func (l links) removeBridge(index int) error {
	err := l.LinkDel(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Index: index}})
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove bridge: %w", err)
	}
	return nil
}

// removePair removes the pair whose host's end is name, if it is still there.
func (l links) removePair(name string) error {
	link, err := l.LinkByName(name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return nil
	}
	if err == nil {
		err = l.LinkDel(link)
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove link %s: %w", name, err)
	}
	return nil
}

// pair describes a veth pair between bridge and container.
type pair struct {
	host   string // name of the host's end
	bridge int    // index
	mtu    int
	ip     netip.Addr
	subnet netip.Prefix
}

// containerLink is the name of the link inside a container.
const containerLink = "eth0"

// connect makes the pair, the far end directly in ns, and configures both ends.
// If it fails, the pair is gone.
func (l links) connect(p pair, ns *os.File) error {
	inside, err := openInside(ns)
	if err != nil {
		return err
	}
	defer inside.Close()
	veth, err := l.makePair(p, ns)
	if err != nil {
		return err
	}
	if err := l.finishPair(p, veth, inside); err != nil {
		return errors.Join(err, l.LinkDel(veth))
	}
	return nil
}

// openInside opens netlink in ns, and sees to it that links made there from now
// on have no IPv6. Loopback keeps its ::1.
func openInside(ns *os.File) (inside links, err error) {
	err = inNamespace(ns, func() error {
		if err := muteIPv6("default"); err != nil {
			return err
		}
		inside, err = openLinks()
		return err
	})
	return inside, err
}

func (l links) makePair(p pair, ns *os.File) (*netlink.Veth, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.MasterIndex = p.host, p.mtu, p.bridge
	veth := &netlink.Veth{
		LinkAttrs:        attrs,
		PeerName:         containerLink,
		PeerHardwareAddr: containerMAC(p.ip),
		PeerMTU:          uint32(p.mtu),
		PeerNamespace:    netlink.NsFd(int(ns.Fd())),
	}
	err := l.LinkAdd(veth)
	if errors.Is(err, unix.EXFULL) {
		return nil, errdefs.New(errdefs.ErrUnavailable, "make link %s: the bridge is full (1023 containers)", p.host)
	}
	if err != nil {
		return nil, fmt.Errorf("make link %s: %w", p.host, err)
	}
	return veth, nil
}

// finishPair configures the pair. The container's end comes up last: until then
// the host's end has no carrier, so IPv6 is off before anything can arrive.
func (l links) finishPair(p pair, veth *netlink.Veth, inside links) error {
	if err := muteIPv6(p.host); err != nil {
		return err
	}
	// With bridge netfilter on (Docker loads it), a container that calls its own
	// published port is bridged back to the port it came from.
	if err := l.LinkSetHairpin(veth, true); err != nil {
		return fmt.Errorf("set hairpin on %s: %w", p.host, err)
	}
	if err := l.LinkSetUp(veth); err != nil {
		return fmt.Errorf("set link %s up: %w", p.host, err)
	}
	return inside.configureContainer(p)
}

// configureContainer sets address and default route of the container's end.
func (l links) configureContainer(p pair) error {
	eth, err := l.LinkByName(containerLink)
	if err != nil {
		return fmt.Errorf("look for %s in the container: %w", containerLink, err)
	}
	addr := &netlink.Addr{
		IPNet:     ipNet(netip.PrefixFrom(p.ip, p.subnet.Bits())),
		Broadcast: broadcast(p.subnet).AsSlice(),
	}
	if err := l.AddrAdd(eth, addr); err != nil {
		return fmt.Errorf("give address %s to the container: %w", addr.IPNet, err)
	}
	if err := l.LinkSetUp(eth); err != nil {
		return fmt.Errorf("set %s up in the container: %w", containerLink, err)
	}
	route := &netlink.Route{LinkIndex: eth.Attrs().Index, Gw: gateway(p.subnet).AsSlice()}
	if err := l.RouteAdd(route); err != nil {
		return fmt.Errorf("set default route in the container: %w", err)
	}
	return nil
}

// uplink finds the device of the host's default route and its MTU. A host
// without one gives "" and the Ethernet default.
func (l links) uplink() (name string, mtu int) {
	const ethernet = 1500
	routes, err := l.RouteGet(net.IPv4(1, 1, 1, 1)) // any address of the Internet; nothing is sent
	if err != nil || len(routes) == 0 {
		return "", ethernet
	}
	link, err := l.LinkByIndex(routes[0].LinkIndex)
	if err != nil || link.Attrs().Flags&net.FlagLoopback != 0 || link.Attrs().MTU < 576 {
		return "", ethernet
	}
	return link.Attrs().Name, link.Attrs().MTU
}

// taken lists the networks that the host knows a way to, and its name servers.
func (l links) taken() ([]netip.Prefix, error) {
	routes, err := settled(func() ([]netlink.Route, error) { return l.RouteList(nil, unix.AF_INET) })
	if err != nil {
		return nil, fmt.Errorf("list routes of the host: %w", err)
	}
	var out []netip.Prefix
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		if ip, ok := netip.AddrFromSlice(r.Dst.IP.To4()); ok {
			ones, _ := r.Dst.Mask.Size()
			out = append(out, netip.PrefixFrom(ip, ones))
		}
	}
	return append(out, hostServers()...), nil
}

// hostServers are the host's name servers: often reached by the default route
// alone, so no route tells of them.
func hostServers() (out []netip.Prefix) {
	for _, path := range resolvers {
		data, _ := os.ReadFile(path) // a missing file names no servers
		for line := range bytes.Lines(data) {
			if ip, ok := nameserver(string(line)); ok && ip.Is4() {
				out = append(out, netip.PrefixFrom(ip, 32))
			}
		}
	}
	return out
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}
