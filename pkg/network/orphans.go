package network

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// aliasPrefix begins the alias of a bridge of box; the run root follows. `ip link`
// shows it.
const aliasPrefix = "box: "

// orphans are the bridges of run roots that do not exist any more: somebody has
// removed the directory before the last sweep, so nobody would ever look after them.
// A bridge with a port in it serves a container, and then its run root exists in
// some mount namespace that is not ours.
func (l links) orphans() ([]netlink.Link, error) {
	all, err := settled(l.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	busy := map[int]bool{}
	for _, link := range all {
		busy[link.Attrs().MasterIndex] = true
	}
	var out []netlink.Link
	for _, link := range all {
		runroot, ours := strings.CutPrefix(link.Attrs().Alias, aliasPrefix)
		if !ours || link.Type() != "bridge" || busy[link.Attrs().Index] {
			continue
		}
		if _, err := os.Lstat(runroot); errors.Is(err, os.ErrNotExist) {
			out = append(out, link)
		}
	}
	return out, nil
}

// removeOrphans removes what run roots have left that are gone themselves.
func (m *Manager) removeOrphans(l links) error {
	orphans, err := l.orphans()
	if err != nil || len(orphans) == 0 {
		return err
	}
	fw, err := m.firewall()
	if err != nil {
		return err
	}
	for _, link := range orphans {
		name := link.Attrs().Name
		if err := fw.clearOrphan(name); err != nil {
			return err
		}
		if err := l.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("remove bridge %s: %w", name, err)
		}
	}
	return nil
}

// clearOrphan removes the table of an orphaned bridge and its accept rules,
// wherever they are.
func (f *firewall) clearOrphan(bridge string) error {
	chains, err := f.ListChains()
	if err != nil {
		return fmt.Errorf("list nftables chains: %w", err)
	}
	st := &state{site: site{Bridge: bridge}}
	for _, c := range chains {
		if c.Name == dockerUser {
			st.Foreign = append(st.Foreign, nameOf(c))
		}
	}
	for _, c := range forwardChains(chains) {
		st.Foreign = append(st.Foreign, nameOf(c))
	}
	return f.clear(st)
}

func nameOf(c *nftables.Chain) foreignChain {
	return foreignChain{Family: c.Table.Family, Table: c.Table.Name, Chain: c.Name}
}
