package network

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"box/internal/errdefs"
)

func TestPoolSitesAreDistinct(t *testing.T) {
	for i := range poolSize {
		for j := range i {
			a, b := poolSite(i), poolSite(j)
			if a.Bridge == b.Bridge || a.Subnet.Overlaps(b.Subnet) {
				t.Errorf("sites %v and %v", a, b)
			}
		}
	}
}

func TestPreferredSites(t *testing.T) {
	sites := preferredSites(defaultRunRoot)
	if s := sites[0]; s.Bridge != "box0" || s.Subnet.String() != "10.210.0.0/20" {
		t.Errorf("the usual run root begins at %v", s)
	}
	if s := preferredSites("/tmp/x")[0]; s.Bridge == "box0" {
		t.Errorf("another run root begins at %v too", s)
	}
	if len(sites) != poolSize {
		t.Errorf("%d sites, want %d", len(sites), poolSize)
	}
}

func TestFreeSites(t *testing.T) {
	route := func(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }
	sites := preferredSites(defaultRunRoot)
	for _, c := range []struct{ taken, want string }{
		{"0.0.0.0/0", "10.210.0.0/20"},       // a default route is no collision
		{"10.210.0.53/32", "10.210.16.0/20"}, // a name server
		{"10.210.0.0/18", "10.210.64.0/20"},
		{"10.0.0.0/8", "172.29.0.0/20"}, // a VPN that takes it all
	} {
		free, err := freeSites(sites, route(c.taken))
		if err != nil || free[0].Subnet.String() != c.want {
			t.Errorf("with %s taken: %v, %v, want %s first", c.taken, free, err, c.want)
		}
	}
	all := append(route("10.0.0.0/8"), route("172.16.0.0/12")...)
	if _, err := freeSites(sites, all); !errors.Is(err, errdefs.ErrConflict) || errdefs.Hint(err) == "" {
		t.Errorf("with all taken: %v (hint %q)", err, errdefs.Hint(err))
	}
	pinned := []site{{Bridge: "box0", Subnet: netip.MustParsePrefix("192.168.7.0/24"), Pinned: true}}
	if _, err := freeSites(pinned, route("192.168.0.0/16")); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("pinned and taken: %v", err)
	}
}

func TestNextAddressGoesRound(t *testing.T) {
	subnet := netip.MustParsePrefix("10.0.0.0/29") // hosts .2 to .6
	used := map[netip.Addr]bool{}
	var last netip.Addr
	var got []string
	for range 6 {
		ip, err := nextAddress(subnet, last, used)
		if err != nil {
			t.Fatal(err)
		}
		got, last = append(got, ip.String()), ip
	}
	want := []string{"10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.2"}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
	for _, s := range want {
		used[netip.MustParseAddr(s)] = true
	}
	if ip, err := nextAddress(subnet, last, used); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("from a full subnet: %v, %v", ip, err)
	}
	delete(used, netip.MustParseAddr("10.0.0.4"))
	if ip, err := nextAddress(subnet, netip.MustParseAddr("192.0.2.1"), used); err != nil || ip.String() != "10.0.0.4" {
		t.Errorf("the one free address: %v, %v", ip, err)
	}
}

func TestAddressArithmetic(t *testing.T) {
	p := netip.MustParsePrefix("10.210.16.0/20")
	if gateway(p).String() != "10.210.16.1" || broadcast(p).String() != "10.210.31.255" {
		t.Errorf("gateway %s, broadcast %s", gateway(p), broadcast(p))
	}
	if mac := containerMAC(netip.MustParseAddr("10.210.16.2")).String(); mac != "02:b0:0a:d2:10:02" {
		t.Errorf("MAC %s", mac)
	}
}

func TestLoadSiteRefusesNonsense(t *testing.T) {
	for _, text := range []string{
		`{`, `{"bridge":"","subnet":"10.0.0.0/24"}`, `{"bridge":"a/b","subnet":"10.0.0.0/24"}`,
		`{"bridge":"box0"}`, `{"bridge":"box0","subnet":"fd00::/64"}`, `{"bridge":"box0","subnet":"10.0.0.0/31"}`,
		`{"bridge":"averyveryverylongname","subnet":"10.0.0.0/24"}`,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "bridge.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if s, _, err := loadSite(dir); err == nil {
			t.Errorf("%s was taken as %v", text, s)
		}
	}
}

func TestVethName(t *testing.T) {
	for _, id := range []string{"0123456789abcdef", "build-12345678", "x"} {
		name := vethName(id, 0xffffffff)
		if len(name) > 15 || name == vethName(id, 0xfffffffe) {
			t.Errorf("vethName(%q) = %q", id, name)
		}
	}
}

func TestStateOfAnotherLifeIsVoid(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	st, err := loadState(path)
	if err != nil {
		t.Fatal(err)
	}
	st.site = poolSite(0)
	st.add("aaaa", lease{IP: netip.MustParseAddr("10.210.0.2")})
	if err := st.save(path); err != nil {
		t.Fatal(err)
	}
	if got, err := loadState(path); err != nil || len(got.Leases) != 1 || got.Bridge != "box0" {
		t.Fatalf("read back: %+v, %v", got, err)
	}
	st.Boot = "another"
	if err := st.save(path); err != nil {
		t.Fatal(err)
	}
	if got, err := loadState(path); err != nil || len(got.Leases) != 0 || got.Bridge != "" {
		t.Errorf("state of another boot: %+v, %v", got, err)
	}
}
