package network

import (
	"bytes"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// In the forward hook every table has a say, and one drop is final: an accept in
// our own table does not help where somebody else's chain drops. There, accept
// rules go into the dropping chain itself, or into the chain that its owner
// keeps for users' rules (Docker's DOCKER-USER), tagged by a comment so that they are
// found again. They stand behind the owner's and the user's rules, before a
// catch-all at the end, and they may be simple: what must not reach a container
// has been dropped by our own forward chain, which runs earlier.
//
// The rules are made of what iptables itself would make, so that `iptables -S`
// still understands the chain.

// foreignChain names a chain of somebody else.
type foreignChain struct {
	Family nftables.TableFamily `json:"family"`
	Table  string               `json:"table"`
	Chain  string               `json:"chain"`
}

func (c foreignChain) String() string { return c.Table + " " + c.Chain }

func (c foreignChain) chain() *nftables.Chain {
	return &nftables.Chain{Name: c.Chain, Table: &nftables.Table{Name: c.Table, Family: c.Family}}
}

// dockerUser is where Docker asks for users' rules; it jumps there first.
const dockerUser = "DOCKER-USER"

// acceptRule is a rule of ours in a foreign chain.
type acceptRule struct {
	in, out string // link names; a trailing + matches any rest
	kind    expr.VerdictKind
	why     string
}

// acceptRules are the rules for bridge, in order. What leaves for a bridge of
// Docker is given back to Docker's own rules, which know what is published there:
// an accept would open every port of its containers. uplink is the link of the
// default route, which on some hosts is called like one of Docker's bridges.
func acceptRules(bridge, uplink string) []acceptRule {
	var rules []acceptRule
	if strings.HasPrefix(uplink, "br-") || strings.HasPrefix(uplink, "docker") {
		rules = append(rules, acceptRule{bridge, uplink, expr.VerdictAccept, "out"})
	}
	return append(rules,
		acceptRule{bridge, "docker+", expr.VerdictReturn, "as Docker decides"},
		acceptRule{bridge, "br-+", expr.VerdictReturn, "as Docker decides"},
		acceptRule{bridge, "", expr.VerdictAccept, "from containers"},
		acceptRule{"", bridge, expr.VerdictAccept, "to containers"},
	)
}

// tag begins the comment of every rule of ours for bridge.
func tag(bridge string) string { return bridge + ": " }

// exprs is r as iptables would write it.
func (r acceptRule) exprs() []expr.Any {
	var out []expr.Any
	if r.in != "" {
		out = append(out, iptablesName(expr.MetaKeyIIFNAME, r.in)...)
	}
	if r.out != "" {
		out = append(out, iptablesName(expr.MetaKeyOIFNAME, r.out)...)
	}
	return append(out, &expr.Counter{}, &expr.Verdict{Kind: r.kind})
}

// iptablesName compares a link name the way iptables does: with its final zero
// byte, or without if it ends in +.
func iptablesName(key expr.MetaKey, name string) []expr.Any {
	data, wild := strings.CutSuffix(name, "+")
	if !wild {
		data += "\x00"
	}
	return []expr.Any{
		&expr.Meta{Key: key, Register: unix.NFT_REG_1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: []byte(data)},
	}
}

// rule is r as a rule of chain c for bridge.
func (r acceptRule) rule(c foreignChain, bridge string) *nftables.Rule {
	ch := c.chain()
	comment := userdata.AppendString(nil, userdata.TypeComment, tag(bridge)+r.why)
	return &nftables.Rule{Table: ch.Table, Chain: ch, Exprs: r.exprs(), UserData: comment}
}

// tagged tells whether somebody's rule is ours for bridge. After iptables-restore
// the comment is a match of its own.
func tagged(r *nftables.Rule, bridge string) bool {
	if s, ok := userdata.GetString(r.UserData, userdata.TypeComment); ok {
		return strings.HasPrefix(s, tag(bridge))
	}
	for _, e := range r.Exprs {
		if m, ok := e.(*expr.Match); ok {
			if c, ok := m.Info.(*xt.Comment); ok {
				return strings.HasPrefix(string(*c), tag(bridge))
			}
		}
	}
	return false
}

// forwardChains are the base chains in the forward hook that see IPv4 packets,
// other than those in tables of box, of whatever run root.
func forwardChains(chains []*nftables.Chain) []*nftables.Chain {
	boxes := map[string]bool{}
	for _, c := range chains {
		if strings.HasPrefix(c.Name, layoutPrefix) {
			boxes[c.Table.Name] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(chains), func(c *nftables.Chain) bool {
		seesIPv4 := c.Table.Family == nftables.TableFamilyIPv4 || c.Table.Family == nftables.TableFamilyINet
		return !seesIPv4 || c.Hooknum == nil || *c.Hooknum != *nftables.ChainHookForward || boxes[c.Table.Name]
	})
}

// drops tells whether chain c with these rules drops what none of them matched.
func drops(c *nftables.Chain, rules []*nftables.Rule) bool {
	if c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
		return true
	}
	return len(rules) > 0 && catchAll(rules[len(rules)-1]) && !passes(rules[len(rules)-1])
}

// place is where in c's table the accept rules for c belong: in DOCKER-USER if c
// jumps there, else in c.
func place(c *nftables.Chain, rules []*nftables.Rule) foreignChain {
	at := foreignChain{Family: c.Table.Family, Table: c.Table.Name, Chain: c.Name}
	for _, r := range rules {
		for _, e := range r.Exprs {
			if v, ok := e.(*expr.Verdict); ok && v.Chain == dockerUser {
				at.Chain = dockerUser
			}
		}
	}
	return at
}

// catchAll tells whether r matches every packet and ends the chain.
func catchAll(r *nftables.Rule) bool {
	ends := false
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Counter, *expr.Log:
		case *expr.Verdict:
			ends = e.Kind != expr.VerdictJump && e.Kind != expr.VerdictGoto && e.Kind != expr.VerdictContinue
		case *expr.Reject:
			ends = true
		case *expr.Target:
			ends = e.Name == "REJECT"
		default:
			return false
		}
	}
	return ends
}

// passes tells whether r accepts or returns.
func passes(r *nftables.Rule) bool {
	return slices.ContainsFunc(r.Exprs, func(e expr.Any) bool {
		v, ok := e.(*expr.Verdict)
		return ok && (v.Kind == expr.VerdictAccept || v.Kind == expr.VerdictReturn)
	})
}

// foreignEdit is what is to be done in one foreign chain.
type foreignEdit struct {
	remove []*nftables.Rule
	add    []*nftables.Rule
	// before is the handle of the rule before which add goes; 0 means the end.
	before uint64
}

// planForeign compares the rules of chain at with those wanted for bridge. An
// edit is empty if they are there already, in one piece and in order, with
// nothing but a catch-all behind them.
func planForeign(at foreignChain, rules []*nftables.Rule, bridge string, wanted []acceptRule) foreignEdit {
	var e foreignEdit
	var last []*nftables.Rule // what stands behind the last rule of ours
	for _, r := range rules {
		if tagged(r, bridge) {
			e.remove, last = append(e.remove, r), nil
			continue
		}
		last = append(last, r)
	}
	for _, w := range wanted {
		e.add = append(e.add, w.rule(at, bridge))
	}
	if n := len(last); n > 0 && catchAll(last[n-1]) {
		e.before, last = last[n-1].Handle, last[:n-1]
	}
	if len(last) == 0 && slices.EqualFunc(e.remove, e.add, sameComment) {
		return foreignEdit{}
	}
	return e
}

// sameComment tells whether two rules of ours are the same one.
func sameComment(a, b *nftables.Rule) bool {
	return bytes.Equal(a.UserData, b.UserData)
}
