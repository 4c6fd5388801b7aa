package network

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The table, for bridge box0 and subnet 10.210.0.0/20, in nft's words:
//
//	table inet box0 {
//	  chain box-layout-1 { }
//	  map ports { type inet_proto . inet_service : ipv4_addr . inet_service }
//	  map bound { type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service }
//
//	  chain guard {        # what a container must not send
//	    type filter hook prerouting priority raw
//	    iifname "box0" ip saddr != 10.210.0.0/20 drop
//	    iifname "box0" ip daddr 127.0.0.0/8 drop
//	  }
//	  chain publish {      # host port to container
//	    dnat ip to meta l4proto . ip daddr . th dport map @bound
//	    dnat ip to meta l4proto . th dport map @ports
//	  }
//	  chain prerouting {   # from outside, and from containers (hairpin)
//	    type nat hook prerouting priority dstnat
//	    ip daddr != 127.0.0.0/8 fib daddr type local jump publish
//	  }
//	  chain output {       # from the host itself
//	    type nat hook output priority dstnat
//	    meta nfproto ipv4 fib daddr type local jump publish
//	  }
//	  chain forward {      # only answers and published ports get in
//	    type filter hook forward priority filter - 1
//	    oifname != "box0" accept
//	    iifname "box0" accept
//	    ct state established,related accept
//	    ct status dnat accept
//	    drop
//	  }
//	  chain postrouting {
//	    type nat hook postrouting priority srcnat
//	    oifname != "box0" ip saddr 10.210.0.0/20 masquerade      # out
//	    oifname "box0" ip saddr 127.0.0.0/8 masquerade           # host to 127.0.0.1:port
//	    oifname "box0" ip saddr 10.210.0.0/20 ct status dnat masquerade  # hairpin
//	  }
//	}
//
// The maps are the only part that changes with containers. fib daddr type local
// (CVE-2025-67499) keeps traffic that merely passes through the host out of the
// maps. The guard chain is what makes route_localnet on the bridge safe
// (CVE-2020-8558), and keeps a container from speaking with foreign addresses.
// The forward chain runs before everybody else's: what it drops nobody can
// accept, so a neighbour of the host cannot reach unpublished ports by a route to
// the subnet, and a port published on 127.0.0.1 stays there.

const (
	mapPorts = "ports"
	mapBound = "bound"
	// reg and the two after it are 4-byte registers; concatenations lie in
	// consecutive ones.
	reg  = unix.NFT_REG32_00
	reg2 = reg + 1
	reg3 = reg + 2
	// dnatDone is IPS_DST_NAT of linux/netfilter/nf_conntrack_common.h.
	dnatDone = 1 << 5
)

// layout names the shape of the table. It is the name of an empty chain in it:
// looking that chain up tells whether the table is there and was made by a box
// that makes the same rules. Change it whenever the rules change.
const (
	layout       = layoutPrefix + "1"
	layoutPrefix = "box-layout-"
)

// ruleTable is the table of s.
func ruleTable(s site) *nftables.Table {
	return &nftables.Table{Name: s.Bridge, Family: nftables.TableFamilyINet}
}

// chainRules is a chain with its rules.
type chainRules struct {
	chain *nftables.Chain
	rules [][]expr.Any
}

// tableChains are the chains of the table of s, jump targets first.
func tableChains(s site) []chainRules {
	t := ruleTable(s)
	hook := func(name string, typ nftables.ChainType, h *nftables.ChainHook, prio nftables.ChainPriority) *nftables.Chain {
		return &nftables.Chain{Name: name, Table: t, Type: typ, Hooknum: h, Priority: &prio}
	}
	in, notOut, out := ifname(expr.MetaKeyIIFNAME, expr.CmpOpEq, s.Bridge),
		ifname(expr.MetaKeyOIFNAME, expr.CmpOpNeq, s.Bridge), ifname(expr.MetaKeyOIFNAME, expr.CmpOpEq, s.Bridge)
	ours, others := source(expr.CmpOpEq, s.Subnet), source(expr.CmpOpNeq, s.Subnet)
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	accept, drop, masquerade := verdict(expr.VerdictAccept), verdict(expr.VerdictDrop), one(&expr.Masq{})
	return []chainRules{
		{chain: &nftables.Chain{Name: layout, Table: t}},
		{hook("guard", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, *nftables.ChainPriorityRaw), [][]expr.Any{
			slices.Concat(in, others, drop),
			slices.Concat(in, destination(expr.CmpOpEq, loopback), drop),
		}},
		{&nftables.Chain{Name: "publish", Table: t}, [][]expr.Any{publishBound(), publishAny()}},
		{hook("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, *nftables.ChainPriorityNATDest), [][]expr.Any{
			slices.Concat(destination(expr.CmpOpNeq, loopback), toHost(), jump("publish")),
		}},
		{hook("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, *nftables.ChainPriorityNATDest), [][]expr.Any{
			slices.Concat(isIPv4(), toHost(), jump("publish")),
		}},
		{hook("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, *nftables.ChainPriorityFilter-1), [][]expr.Any{
			slices.Concat(notOut, accept),
			slices.Concat(in, accept),
			slices.Concat(conntrack(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), accept),
			slices.Concat(conntrack(expr.CtKeySTATUS, dnatDone), accept),
			drop,
		}},
		{hook("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource), [][]expr.Any{
			slices.Concat(notOut, ours, masquerade),
			slices.Concat(out, source(expr.CmpOpEq, loopback), masquerade),
			slices.Concat(out, ours, conntrack(expr.CtKeySTATUS, dnatDone), masquerade),
		}},
	}
}

// portMap is one of the two maps of published ports.
func portMap(s site, name string) *nftables.Set {
	key := nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService)
	if name == mapBound {
		key = nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeIPAddr, nftables.TypeInetService)
	}
	return &nftables.Set{
		Table: ruleTable(s), Name: name, IsMap: true, Concatenation: true, KeyType: key,
		DataType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService),
	}
}

// elements are the map elements for l's ports, by map.
func elements(l lease) map[string][]nftables.SetElement {
	out := map[string][]nftables.SetElement{}
	for _, p := range l.Ports {
		name, key := mapPorts, []byte{protocol(p.Proto), 0, 0, 0}
		if !p.AnyAddress() {
			name, key = mapBound, append(key, p.HostIP.AsSlice()...)
		}
		out[name] = append(out[name], nftables.SetElement{
			Key: append(key, port32(p.HostPort)...),
			Val: append(l.IP.AsSlice(), port32(p.ContainerPort)...),
		})
	}
	return out
}

// port32 is a port in a 4-byte register.
func port32(p uint16) []byte { return append(binary.BigEndian.AppendUint16(nil, p), 0, 0) }

func protocol(name string) byte {
	if name == "udp" {
		return unix.IPPROTO_UDP
	}
	return unix.IPPROTO_TCP
}

// publishAny redirects by protocol and port.
func publishAny() []expr.Any {
	return slices.Concat(isIPv4(), []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg},
		&expr.Payload{DestRegister: reg2, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}, redirect(mapPorts))
}

// publishBound redirects by protocol, address and port.
func publishBound() []expr.Any {
	return slices.Concat(isIPv4(), []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg},
		&expr.Payload{DestRegister: reg2, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
		&expr.Payload{DestRegister: reg3, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}, redirect(mapBound))
}

// redirect looks the key in reg up; a hit changes the destination, a miss goes on
// with the next rule.
func redirect(name string) []expr.Any {
	return []expr.Any{
		&expr.Lookup{SourceRegister: reg, DestRegister: reg, IsDestRegSet: true, SetName: name},
		&expr.NAT{
			Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4,
			RegAddrMin: reg, RegAddrMax: reg, RegProtoMin: reg2, RegProtoMax: reg2, Specified: true,
		},
	}
}

func one(e expr.Any) []expr.Any { return []expr.Any{e} }

func verdict(kind expr.VerdictKind) []expr.Any { return one(&expr.Verdict{Kind: kind}) }

func jump(chain string) []expr.Any {
	return one(&expr.Verdict{Kind: expr.VerdictJump, Chain: chain})
}

// ifname compares the whole name of a link.
func ifname(key expr.MetaKey, op expr.CmpOp, name string) []expr.Any {
	data := make([]byte, unix.IFNAMSIZ)
	copy(data, name)
	return []expr.Any{&expr.Meta{Key: key, Register: reg}, &expr.Cmp{Op: op, Register: reg, Data: data}}
}

func isIPv4() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: []byte{unix.NFPROTO_IPV4}},
	}
}

// Offsets in the IPv4 header.
const (
	offsetSource      = 12
	offsetDestination = 16
)

func source(op expr.CmpOp, p netip.Prefix) []expr.Any { return address(offsetSource, op, p) }

func destination(op expr.CmpOp, p netip.Prefix) []expr.Any { return address(offsetDestination, op, p) }

// address compares an address of the IPv4 header with a network.
func address(offset uint32, op expr.CmpOp, p netip.Prefix) []expr.Any {
	mask := binary.BigEndian.AppendUint32(nil, ^uint32(0)<<(32-p.Bits()))
	return append(isIPv4(),
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: op, Register: reg, Data: p.Masked().Addr().AsSlice()},
	)
}

// toHost matches packets to an address of the host itself.
func toHost() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: reg, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}

// conntrack matches if any of bits is set in the connection's key.
func conntrack(key expr.CtKey, bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: reg},
		&expr.Bitwise{
			SourceRegister: reg, DestRegister: reg, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4),
		},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg, Data: make([]byte, 4)},
	}
}
