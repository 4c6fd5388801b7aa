package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// firewall speaks nftables in the host's namespace.
//
// Its sockets stay open as long as the process does. What a transaction deletes
// the kernel frees after an RCU grace period, some 10 ms later, and until then it
// makes everybody wait who closes any netfilter socket, with all other
// transactions waiting behind him (nft_rcv_nl_event in net/netfilter/nf_tables_api.c).
type firewall struct {
	*nftables.Conn
	ask   *nl.SocketHandle // for the generation, which nftables.Conn cannot ask for
	flows *netlink.Handle  // for conntrack, opened when needed
}

func openFirewall() (*firewall, error) {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	sock, err := nl.Subscribe(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open nftables: %w", err), conn.CloseLasting())
	}
	return &firewall{Conn: conn, ask: &nl.SocketHandle{Socket: sock}}, nil
}

// close gives the sockets back without waiting for the kernel.
func (f *firewall) close() {
	go func() {
		f.CloseLasting() //nolint:errcheck // nothing is buffered
		f.ask.Close()
		if f.flows != nil {
			f.flows.Close()
		}
	}()
}

// generation is the number that the kernel raises by one with every transaction,
// whoever makes it.
func (f *firewall) generation() (uint32, error) {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETGEN, 0)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: f.ask}
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: unix.NFNETLINK_V0})
	msgs, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return 0, fmt.Errorf("ask for the generation of nftables: %w", err)
	}
	for _, m := range msgs {
		attrs, err := nl.ParseRouteAttr(m[nl.SizeofNfgenmsg:])
		if err != nil {
			return 0, fmt.Errorf("read the generation of nftables: %w", err)
		}
		for _, a := range attrs {
			if a.Attr.Type == unix.NFTA_GEN_ID && len(a.Value) == 4 {
				return binary.BigEndian.Uint32(a.Value), nil
			}
		}
	}
	return 0, errors.New("read the generation of nftables: the answer has none")
}

// change is what happened to the leases since the rules were last right.
type change struct {
	added, removed []lease
	// rebuild says that more has changed than that: make the table anew.
	rebuild bool
}

// sync brings the kernel's rules from the leases before c to those of st, and
// repairs what others have done to them since. st.Generation and st.Foreign are
// brought up to date.
func (f *firewall) sync(st *state, c change) error {
	before, err := f.generation()
	if err != nil {
		return err
	}
	intact := st.Generation != 0 && st.Generation == before
	st.Generation = 0
	sent, err := f.try(st, c, intact)
	if err != nil && !c.rebuild {
		// An element that was expected is missing or one too many is there.
		c.rebuild = true
		sent, err = f.try(st, c, false)
	}
	if err != nil {
		return err
	}
	after, err := f.generation()
	if err != nil {
		return err
	}
	if own := btoi(sent); after == before+own { // else somebody came between: look again next time
		st.Generation = after
	}
	return nil
}

func btoi(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// try makes one transaction and tells whether there was anything to send.
func (f *firewall) try(st *state, c change, intact bool) (sent bool, err error) {
	if !intact {
		repaired, err := f.stageRepair(st, &c)
		if err != nil {
			return false, err
		}
		sent = repaired
	}
	if c.rebuild {
		sent = true
		if err := f.stageTable(st); err != nil {
			return false, err
		}
	} else {
		staged, err := f.stageElements(st.site, c)
		if err != nil {
			return false, err
		}
		sent = sent || staged
	}
	if err := f.Flush(); err != nil {
		return false, fmt.Errorf("change table inet %s: %w", st.Bridge, err)
	}
	return sent, nil
}

// stageRepair looks at table and foreign chains. A table that is missing or of
// another layout makes c a rebuild.
func (f *firewall) stageRepair(st *state, c *change) (staged bool, err error) {
	chains, err := f.ListChains()
	if err != nil {
		return false, fmt.Errorf("list nftables chains: %w", err)
	}
	own := ruleTable(st.site)
	c.rebuild = c.rebuild || !slices.ContainsFunc(chains, func(ch *nftables.Chain) bool {
		return ch.Table.Name == own.Name && ch.Table.Family == own.Family && ch.Name == layout
	})
	return f.stageForeign(st, chains)
}

// stageTable replaces the whole table by what the leases ask for, in the running
// transaction. Adding it first makes deleting it valid if there is none.
func (f *firewall) stageTable(st *state) error {
	t := ruleTable(st.site)
	f.AddTable(t)
	f.DelTable(t)
	f.AddTable(t)
	for _, name := range []string{mapPorts, mapBound} {
		if err := f.AddSet(portMap(st.site, name), nil); err != nil {
			return fmt.Errorf("encode map %s: %w", name, err)
		}
	}
	for _, c := range tableChains(st.site) {
		f.AddChain(c.chain)
		for _, r := range c.rules {
			f.AddRule(&nftables.Rule{Table: t, Chain: c.chain, Exprs: r})
		}
	}
	all := change{}
	for _, l := range st.Leases {
		all.added = append(all.added, l)
	}
	_, err := f.stageElements(st.site, all)
	return err
}

// elementsPerMessage keeps a message below the 64 KiB that an attribute holds.
const elementsPerMessage = 500

// stageElements stages the ports of c.
func (f *firewall) stageElements(s site, c change) (staged bool, err error) {
	stage := func(leases []lease, do func(*nftables.Set, []nftables.SetElement) error) error {
		for _, l := range leases {
			for name, all := range elements(l) {
				for part := range slices.Chunk(all, elementsPerMessage) {
					staged = true
					if err := do(portMap(s, name), part); err != nil {
						return fmt.Errorf("encode elements of map %s: %w", name, err)
					}
				}
			}
		}
		return nil
	}
	if err := stage(c.removed, f.SetDeleteElements); err != nil {
		return false, err
	}
	return staged, stage(c.added, f.SetAddElements)
}

// stageForeign stages accept rules for every chain that would drop, takes them
// out of those that no longer do, and lists in st.Foreign where they are.
func (f *firewall) stageForeign(st *state, chains []*nftables.Chain) (staged bool, err error) {
	wanted, err := f.foreignPlaces(st, chains)
	if err != nil {
		return false, err
	}
	for _, at := range st.Foreign {
		if _, still := wanted[at]; !still && exists(chains, at) {
			wanted[at] = nil
		}
	}
	st.Foreign = nil
	for at, accept := range wanted {
		did, err := f.stageEdit(at, st.Bridge, accept)
		if err != nil {
			return false, err
		}
		staged = staged || did
		if accept != nil {
			st.Foreign = append(st.Foreign, at)
		}
	}
	return staged, nil
}

// foreignPlaces finds the chains that need accept rules.
func (f *firewall) foreignPlaces(st *state, chains []*nftables.Chain) (map[foreignChain][]acceptRule, error) {
	places := map[foreignChain][]acceptRule{}
	for _, c := range forwardChains(chains) {
		rules, err := f.GetRules(c.Table, c)
		if err != nil {
			return nil, fmt.Errorf("list rules of chain %s %s: %w", c.Table.Name, c.Name, err)
		}
		if drops(c, rules) {
			places[place(c, rules)] = acceptRules(st.Bridge, st.Uplink)
		}
	}
	return places, nil
}

func exists(chains []*nftables.Chain, at foreignChain) bool {
	return slices.ContainsFunc(chains, func(c *nftables.Chain) bool {
		return c.Name == at.Chain && c.Table.Name == at.Table && c.Table.Family == at.Family
	})
}

// stageEdit stages what makes the rules of ours in chain at those wanted.
func (f *firewall) stageEdit(at foreignChain, bridge string, wanted []acceptRule) (staged bool, err error) {
	ch := at.chain()
	rules, err := f.GetRules(ch.Table, ch)
	if err != nil {
		return false, fmt.Errorf("list rules of chain %s: %w", at, err)
	}
	e := planForeign(at, rules, bridge, wanted)
	for _, r := range e.remove {
		if err := f.DelRule(&nftables.Rule{Table: ch.Table, Chain: ch, Handle: r.Handle}); err != nil {
			return false, fmt.Errorf("remove rule from chain %s: %w", at, err)
		}
	}
	for _, r := range e.add {
		if r.Position = e.before; e.before != 0 {
			f.InsertRule(r)
		} else {
			f.AddRule(r)
		}
	}
	return len(e.remove)+len(e.add) > 0, nil
}

// clear removes the table and every rule of ours elsewhere. Without leases there
// is nothing that they could serve.
func (f *firewall) clear(st *state) error {
	if len(st.Foreign) > 0 {
		chains, err := f.ListChains()
		if err != nil {
			return fmt.Errorf("list nftables chains: %w", err)
		}
		for _, at := range st.Foreign {
			if !exists(chains, at) {
				continue
			}
			if _, err := f.stageEdit(at, st.Bridge, nil); err != nil {
				return err
			}
		}
	}
	t := ruleTable(st.site)
	f.AddTable(t) // makes the next line valid if somebody has flushed the ruleset
	f.DelTable(t)
	if err := f.Flush(); err != nil {
		return fmt.Errorf("remove table inet %s: %w", st.Bridge, err)
	}
	st.Foreign, st.Generation = nil, 0
	return nil
}

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
