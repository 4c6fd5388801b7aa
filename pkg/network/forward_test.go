package network

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
)

// foreignRule is somebody else's rule with a handle.
func foreignRule(handle uint64, exprs ...expr.Any) *nftables.Rule {
	return &nftables.Rule{Handle: handle, Exprs: exprs}
}

func TestCatchAll(t *testing.T) {
	name := iptablesName(expr.MetaKeyIIFNAME, "eth0")
	for _, c := range []struct {
		name  string
		exprs []expr.Any
		want  bool
	}{
		{"drop", verdict(expr.VerdictDrop), true},
		{"counted return", []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictReturn}}, true},
		{"xt reject", []expr.Any{&expr.Counter{}, &expr.Target{Name: "REJECT"}}, true},
		{"reject", one(&expr.Reject{}), true},
		{"jump", jump("x"), false},
		{"log only", one(&expr.Log{}), false},
		{"xt log", []expr.Any{&expr.Target{Name: "LOG"}}, false},
		{"conditional drop", append(slices.Clone(name), &expr.Verdict{Kind: expr.VerdictDrop}), false},
		{"nothing", nil, false},
	} {
		if got := catchAll(foreignRule(1, c.exprs...)); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestPlanForeign(t *testing.T) {
	at := foreignChain{nftables.TableFamilyIPv4, "filter", "FORWARD"}
	wanted := acceptRules("box0", "eth0")
	var ours []*nftables.Rule
	for i, w := range wanted {
		r := w.rule(at, "box0")
		r.Handle = uint64(100 + i)
		ours = append(ours, r)
	}
	user, end := foreignRule(1, jump("users")...), foreignRule(9, verdict(expr.VerdictDrop)...)
	otherBox := foreignRule(7, verdict(expr.VerdictAccept)...)
	otherBox.UserData = userdata.AppendString(nil, userdata.TypeComment, "box01: to containers")
	for _, c := range []struct {
		name        string
		rules       []*nftables.Rule
		wanted      []acceptRule
		remove, add int
		before      uint64
	}{
		{"empty chain", nil, wanted, 0, 4, 0},
		{"behind users' rules", []*nftables.Rule{user}, wanted, 0, 4, 0},
		{"before a catch-all", []*nftables.Rule{user, end}, wanted, 0, 4, 9},
		{"there already", slices.Concat([]*nftables.Rule{user}, ours, []*nftables.Rule{end}), wanted, 0, 0, 0},
		{"one is missing", slices.Concat(ours[1:], []*nftables.Rule{end}), wanted, 3, 4, 9},
		{"a rule was added behind", slices.Concat(ours, []*nftables.Rule{user}), wanted, 4, 4, 0},
		{"no longer wanted", slices.Concat(ours, []*nftables.Rule{end}), nil, 4, 0, 9},
		{"another box's rules", []*nftables.Rule{otherBox}, nil, 0, 0, 0},
	} {
		e := planForeign(at, c.rules, "box0", c.wanted)
		if len(e.remove) != c.remove || len(e.add) != c.add || (c.add > 0 && e.before != c.before) {
			t.Errorf("%s: remove %d, add %d before %d; want %d, %d before %d",
				c.name, len(e.remove), len(e.add), e.before, c.remove, c.add, c.before)
		}
	}
}

func TestAcceptRulesNameTheUplink(t *testing.T) {
	if n := len(acceptRules("box0", "eth0")); n != 4 {
		t.Errorf("%d rules, want 4", n)
	}
	first := acceptRules("box0", "br-lan")[0]
	if first.out != "br-lan" || first.kind != expr.VerdictAccept {
		t.Errorf("the way out by br-lan is not opened first: %+v", first)
	}
}

// run runs a command in the host's namespace and returns what it prints.
func (w *world) run(name string, args ...string) string {
	w.t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		w.t.Skipf("needs %s: %v", name, err)
	}
	var out []byte
	w.in(w.host, func() {
		var err error
		if out, err = exec.Command(name, args...).CombinedOutput(); err != nil {
			w.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
	})
	return string(out)
}

// expectWays checks the ways out, in, and between containers.
func (w *world) expectWays() {
	w.t.Helper()
	web, lease := w.attach("web", tcp(8080, 80))
	peer, _ := w.attach("peer")
	w.serve(web, "tcp", ":80", "web")
	w.serve(w.outside, "tcp", internetAddr+":80", "internet")
	w.expect(web, "tcp", internetAddr+":80", "internet "+hostAddr)
	w.expect(w.outside, "tcp", hostAddr+":8080", "web "+outsideAddr)
	w.expect(peer, "tcp", hostAddr+":8080", "web "+lease.Gateway.String())
	w.expect(peer, "tcp", lease.IP.String()+":80", "web "+lastIP(w))
	w.expect(w.host, "tcp", "127.0.0.1:8080", "web "+lease.Gateway.String())
}

func lastIP(w *world) (ip string) {
	w.in(w.host, func() {
		st, err := loadState(w.m.statePath())
		w.must(err)
		ip = st.Last.String()
	})
	return ip
}

// Each way in which somebody else may have closed the forward hook.
func TestForwardDrop(t *testing.T) {
	const docker = `iptables -P FORWARD DROP; iptables -N DOCKER-USER; iptables -I FORWARD -j DOCKER-USER;
		iptables -A DOCKER-USER -s 192.0.2.66 -j DROP; iptables -A DOCKER-USER -j RETURN`
	for _, c := range []struct{ name, setup, list string }{
		{"iptables policy", "iptables -P FORWARD DROP", "iptables -S"},
		{"iptables with rules", "iptables -P FORWARD DROP; iptables -A FORWARD -s 192.0.2.66 -j DROP", "iptables -S"},
		{"iptables catch-all", "iptables -A FORWARD -s 192.0.2.66 -j DROP; iptables -A FORWARD -j REJECT", "iptables -S"},
		{"docker", docker, "iptables -S"},
		{
			"nft policy", "nft add table inet filter; nft 'add chain inet filter forward {type filter hook forward priority 0; policy drop;}'",
			"nft list table inet filter",
		},
		{
			"nft reject", `nft add table inet fw; nft 'add chain inet fw forward {type filter hook forward priority 10;}';
			nft add rule inet fw forward ip saddr 192.0.2.66 drop; nft add rule inet fw forward reject with icmpx admin-prohibited`,
			"nft list table inet fw",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.run("iptables", "-V")
			w.run("nft", "-v")
			w.run("sh", "-ec", c.setup)
			before := w.run("sh", "-c", c.list)
			w.expectWays()
			if during := w.run("sh", "-c", c.list); !strings.Contains(during, "from containers") {
				t.Errorf("no rule of ours in\n%s", during)
			}
			w.detach("web")
			w.detach("peer")
			if after := w.run("sh", "-c", c.list); after != before {
				t.Errorf("rules before\n%s\nafter\n%s", before, after)
			}
		})
	}
}

// The firewall closes after containers are running: the next look repairs it, and
// rules of users keep their place before ours.
func TestForwardDropLater(t *testing.T) {
	w := newWorld(t)
	web, _ := w.attach("web", tcp(8080, 80))
	w.serve(web, "tcp", ":80", "web")
	w.run("iptables", "-P", "FORWARD", "DROP")
	w.refuse(w.outside, "tcp", hostAddr+":8080", "web")
	sweep := func() {
		w.in(w.host, func() { w.must(w.m.Sweep(t.Context(), func(string) bool { return true })) })
	}
	sweep()
	w.expect(w.outside, "tcp", hostAddr+":8080", "web "+outsideAddr)
	w.run("iptables", "-A", "FORWARD", "-s", outsideAddr, "-j", "DROP")
	sweep()
	w.refuse(w.outside, "tcp", hostAddr+":8080", "web")
	w.run("iptables", "-D", "FORWARD", "-s", outsideAddr, "-j", "DROP")
	w.run("sh", "-ec", "iptables-save | iptables-restore")
	w.expect(w.outside, "tcp", hostAddr+":8080", "web "+outsideAddr)
	w.run("iptables", "-P", "FORWARD", "ACCEPT")
	sweep()
	if rules := w.run("iptables", "-S"); strings.Contains(rules, "box") {
		t.Errorf("rules that are not needed any more stay:\n%s", rules)
	}
	w.detach("web")
}

// What is not published by Docker stays closed to containers of box.
func TestDockersContainersStayClosed(t *testing.T) {
	w := newWorld(t)
	theirs := newNS(t)
	w.run("sh", "-ec", "iptables -P FORWARD DROP; iptables -N DOCKER-USER; iptables -I FORWARD -j DOCKER-USER; iptables -A DOCKER-USER -j RETURN")
	w.in(w.host, func() {
		l, err := openLinks()
		w.must(err)
		defer l.Close()
		s := site{Bridge: "docker0", Subnet: poolSite(5).Subnet}
		index, err := l.makeBridge(s, bridgeMAC("docker"), 1500, "/")
		w.must(err)
		w.must(l.connect(pair{host: "dockerveth", bridge: index, mtu: 1500, ip: gateway(s.Subnet).Next(), subnet: s.Subnet}, theirs))
	})
	addr := gateway(poolSite(5).Subnet).Next().String() + ":80"
	w.serve(theirs, "tcp", ":80", "theirs")
	w.expect(w.host, "tcp", addr, "theirs "+gateway(poolSite(5).Subnet).String())
	ours, _ := w.attach("ours")
	w.refuse(ours, "tcp", addr, "theirs")
	w.run("iptables", "-I", "FORWARD", "2", "-o", "docker0", "-j", "ACCEPT") // as Docker does for a published port
	w.expect(ours, "tcp", addr, "theirs "+gateway(poolSite(5).Subnet).String())
}
