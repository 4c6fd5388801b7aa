package network

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// forgetFlows removes what conntrack remembers of the udp ports of leases. A udp
// flow has no end: without this, a client that keeps sending to a published port
// would be led to the former container, or to the host itself, for minutes. TCP
// needs none of it, a reset ends a stale connection.
func (f *firewall) forgetFlows(leases []lease) error {
	var filters []netlink.CustomConntrackFilter
	for _, l := range leases {
		for _, p := range l.Ports {
			if p.Proto != "udp" {
				continue
			}
			one := &netlink.ConntrackFilter{}
			err := errors.Join(one.AddProtocol(unix.IPPROTO_UDP), one.AddPort(netlink.ConntrackOrigDstPort, p.HostPort))
			if err != nil {
				return fmt.Errorf("select flows of port %s: %w", p, err)
			}
			filters = append(filters, one)
		}
	}
	if len(filters) == 0 {
		return nil
	}
	if f.flows == nil {
		h, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
		if err != nil {
			return fmt.Errorf("open conntrack: %w", err)
		}
		f.flows = h
	}
	_, err := f.flows.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, filters...)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("forget udp flows: %w", err)
	}
	return nil
}
