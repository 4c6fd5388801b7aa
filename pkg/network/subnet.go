package network

import (
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"

	"box/internal/errdefs"
)

// site is a place for a bridge: its name and its subnet. The N-th site of the
// pool is named box<N>, so that the kernel's uniqueness of link names makes
// claiming a subnet atomic between data roots.
type site struct {
	Bridge string       `json:"bridge"`
	Subnet netip.Prefix `json:"subnet"`
	// Pinned says that a person chose the subnet: a collision is then an error
	// instead of a reason to take another.
	Pinned bool `json:"pinned,omitempty"`
}

// poolBlocks are the /16 networks from which subnets are cut. They lie apart from
// those that other engines begin with (172.17 to 172.20, 10.88, 10.89, 10.4,
// 10.42, 10.244) and from common home and office networks.
var poolBlocks = [...][2]byte{{10, 210}, {172, 29}, {10, 211}}

const (
	sitesPerBlock = 16
	poolSize      = sitesPerBlock * len(poolBlocks)
	// subnetBits leaves 4093 addresses. A bridge takes no more than 1023 ports
	// (BR_MAX_PORTS), so an address rests long before it is given out again.
	subnetBits = 20
)

// poolSite is the n-th site, 0 <= n < poolSize.
func poolSite(n int) site {
	block := poolBlocks[n/sitesPerBlock]
	base := netip.AddrFrom4([4]byte{block[0], block[1], byte(n%sitesPerBlock) << (24 - subnetBits), 0})
	return site{Bridge: fmt.Sprintf("box%d", n), Subnet: netip.PrefixFrom(base, subnetBits)}
}

// defaultRunRoot is the run root whose bridge is box0.
const defaultRunRoot = "/run/box"

// preferredSites lists the pool in the order in which the owner of runroot tries
// it: the usual run root begins at box0, any other at a place of its own, so that
// tests and second installations rarely meet.
func preferredSites(runroot string) []site {
	first := 0
	if runroot != defaultRunRoot {
		first = 1 + int(hash32(runroot)%uint32(poolSize-1))
	}
	sites := make([]site, 0, poolSize)
	for i := range poolSize {
		sites = append(sites, poolSite((first+i)%poolSize))
	}
	return sites
}

// collision is the first of taken that overlaps subnet.
func collision(subnet netip.Prefix, taken []netip.Prefix) (netip.Prefix, bool) {
	for _, t := range taken {
		if t.Bits() > 0 && t.Overlaps(subnet) {
			return t, true
		}
	}
	return netip.Prefix{}, false
}

// freeSites are those of sites whose subnet overlaps nothing in taken. If none is
// left the error names the way out.
func freeSites(sites []site, taken []netip.Prefix) ([]site, error) {
	var free []site
	for _, s := range sites {
		t, hit := collision(s.Subnet, taken)
		if hit && s.Pinned {
			return nil, errdefs.New(errdefs.ErrConflict, "use subnet %s: it overlaps %s, which the host uses", s.Subnet, t)
		}
		if !hit {
			free = append(free, s)
		}
	}
	if len(free) == 0 {
		return nil, errdefs.WithHint(
			errdefs.New(errdefs.ErrConflict, "choose subnet: all subnets of the pool overlap routes of the host"),
			`name a free one in ROOT/network/bridge.json: {"bridge":"box0","subnet":"192.168.240.0/20","pinned":true}`)
	}
	return free, nil
}

// gateway is the first address of subnet: the bridge's own.
func gateway(subnet netip.Prefix) netip.Addr { return subnet.Masked().Addr().Next() }

// broadcast is the last address of subnet.
func broadcast(subnet netip.Prefix) netip.Addr {
	b := subnet.Masked().Addr().As4()
	for bit := subnet.Bits(); bit < 32; bit++ {
		b[bit/8] |= 1 << (7 - bit%8)
	}
	return netip.AddrFrom4(b)
}

// nextAddress is the first address after last, in a circle, that is not used.
// Going round keeps a freed address out of use as long as possible: neighbours
// and conntrack still know its former owner.
func nextAddress(subnet netip.Prefix, last netip.Addr, used map[netip.Addr]bool) (netip.Addr, error) {
	first, end := gateway(subnet).Next(), broadcast(subnet)
	if !last.IsValid() || !subnet.Contains(last) || last.Compare(first) < 0 {
		last = gateway(subnet)
	}
	ip := last
	for range 1 << (32 - subnet.Bits()) {
		if ip = ip.Next(); ip == end {
			ip = first
		}
		if !used[ip] {
			return ip, nil
		}
	}
	return netip.Addr{}, errdefs.New(errdefs.ErrUnavailable, "no address is free in %s", subnet)
}

// containerMAC derives the MAC address from the IP address: a neighbour's stale
// entry for a reused address is then never wrong.
func containerMAC(ip netip.Addr) net.HardwareAddr {
	b := ip.As4()
	return net.HardwareAddr{0x02, 0xb0, b[0], b[1], b[2], b[3]}
}

// bridgeMAC marks the bridge of runroot as its own, from the moment it exists.
func bridgeMAC(runroot string) net.HardwareAddr {
	h := hash32(runroot)
	return net.HardwareAddr{0x02, 0xb1, byte(h >> 24), byte(h >> 16), byte(h >> 8), byte(h)}
}

func hash32(s string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(s)) //nolint:errcheck // never fails
	return h.Sum32()
}
