package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"box/internal/errdefs"
)

func ExampleParsePorts() {
	for _, spec := range []string{"80", "8080:80", "127.0.0.1:8080:80/udp", "8000-8001:80-81", "8000-8010:80"} {
		ports, err := ParsePorts(spec)
		fmt.Println(spec, ports, err)
	}
	// Output:
	// 80 [0.0.0.0:0->80/tcp] <nil>
	// 8080:80 [0.0.0.0:8080->80/tcp] <nil>
	// 127.0.0.1:8080:80/udp [127.0.0.1:8080->80/udp] <nil>
	// 8000-8001:80-81 [0.0.0.0:8000->80/tcp 0.0.0.0:8001->81/tcp] <nil>
	// 8000-8010:80 [0.0.0.0:8000-8010->80/tcp] <nil>
}

func TestParsePorts(t *testing.T) {
	for spec, want := range map[string]string{
		"53:53/UDP":            "[0.0.0.0:53->53/udp]",
		"0.0.0.0:8080:80":      "[0.0.0.0:8080->80/tcp]",
		"127.0.0.1::80":        "[127.0.0.1:0->80/tcp]",
		"[::ffff:1.2.3.4]:1:2": "[1.2.3.4:1->2/tcp]",
		"80-81":                "[0.0.0.0:0->80/tcp 0.0.0.0:0->81/tcp]",
		"65534-65535:1-2":      "[0.0.0.0:65534->1/tcp 0.0.0.0:65535->2/tcp]",
		":80":                  "[0.0.0.0:0->80/tcp]",
		"0:80":                 "[0.0.0.0:0->80/tcp]",
	} {
		if got, err := ParsePorts(spec); err != nil || fmt.Sprint(got) != want {
			t.Errorf("ParsePorts(%q) = %v, %v, want %s", spec, got, err, want)
		}
	}
}

func TestParsePortsRefuses(t *testing.T) {
	for spec, want := range map[string]struct {
		class error
		text  string
	}{
		"":                 {errdefs.ErrInvalid, "the container's port is missing"},
		"8080:":            {errdefs.ErrInvalid, "the container's port is missing"},
		"0":                {errdefs.ErrInvalid, `"0" is not a port`},
		"65536":            {errdefs.ErrInvalid, `"65536" is not a port`},
		"http":             {errdefs.ErrInvalid, `"http" is not a port`},
		"80/icmp":          {errdefs.ErrInvalid, `unknown protocol "icmp"`},
		"80/sctp":          {errdefs.ErrUnsupported, "protocol sctp is not supported"},
		"[::1]:80:80":      {errdefs.ErrUnsupported, "IPv6"},
		"::80:80":          {errdefs.ErrInvalid, `":" is not an IP address`},
		"localhost:80:80":  {errdefs.ErrInvalid, `"localhost" is not an IP address`},
		"300.1.1.1:80:80":  {errdefs.ErrInvalid, `"300.1.1.1" is not an IP address`},
		"90-80:90-80":      {errdefs.ErrInvalid, "the range 90-80 runs backwards"},
		"80-82:80-81":      {errdefs.ErrInvalid, "differ in length"},
		"80:80-81":         {errdefs.ErrInvalid, "differ in length"},
		"1-2-3:1":          {errdefs.ErrInvalid, `"2-3" is not a port`},
		"1.2.3.4:5:6:7":    {errdefs.ErrInvalid, "is not an IP address"},
		"+80":              {errdefs.ErrInvalid, `"+80" is not a port`},
		"80/tcp/udp":       {errdefs.ErrInvalid, "unknown protocol"},
		"127.0.0.1:80:/ud": {errdefs.ErrInvalid, "unknown protocol"},
	} {
		got, err := ParsePorts(spec)
		if err == nil {
			t.Errorf("ParsePorts(%q) = %v, want an error", spec, got)
			continue
		}
		if !errors.Is(err, want.class) || !strings.Contains(err.Error(), want.text) {
			t.Errorf("ParsePorts(%q): %v, want %v with %q", spec, err, want.class, want.text)
		}
	}
}

func FuzzParsePorts(f *testing.F) {
	f.Add("127.0.0.1:8000-8010:80-90/udp")
	f.Fuzz(func(t *testing.T, spec string) {
		ports, err := ParsePorts(spec)
		if err == nil && len(ports) == 0 {
			t.Errorf("ParsePorts(%q): neither ports nor an error", spec)
		}
		for _, p := range ports {
			if p.ContainerPort == 0 || p.Proto != "tcp" && p.Proto != "udp" {
				t.Errorf("ParsePorts(%q): %+v", spec, p)
			}
		}
	})
}

// listen takes a port as some other program would.
func listen(t *testing.T, network, addr string) uint16 {
	t.Helper()
	if strings.HasPrefix(network, "udp") {
		c, err := net.ListenPacket(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return netip.MustParseAddrPort(c.LocalAddr().String()).Port()
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

func reserve(t *testing.T, ports ...PortMapping) (*Reservation, error) {
	t.Helper()
	r, err := Reserve(ports)
	if err == nil {
		t.Cleanup(func() { r.Close() })
	}
	return r, err
}

func TestReserveSeesPortsInUse(t *testing.T) {
	for _, c := range []struct{ network, addr, proto string }{
		{"tcp4", "0.0.0.0:0", "tcp"},
		{"tcp4", "127.0.0.1:0", "tcp"},
		{"tcp", "[::]:0", "tcp"},
		{"tcp6", "[::]:0", "tcp"},
		{"udp4", "0.0.0.0:0", "udp"},
	} {
		t.Run(c.network+" "+c.addr, func(t *testing.T) {
			port := listen(t, c.network, c.addr)
			_, err := reserve(t, PortMapping{HostPort: port, ContainerPort: 80, Proto: c.proto})
			if !errors.Is(err, errdefs.ErrConflict) || errdefs.Hint(err) == "" ||
				!strings.Contains(err.Error(), fmt.Sprintf("port %d is already in use on 0.0.0.0", port)) {
				t.Errorf("got %v (hint %q)", err, errdefs.Hint(err))
			}
		})
	}
}

func TestReserveHoldsUntilClosed(t *testing.T) {
	first, err := reserve(t, PortMapping{ContainerPort: 80, Proto: "tcp"})
	if err != nil {
		t.Fatal(err)
	}
	got := first.Ports()[0]
	if got.HostPort == 0 {
		t.Fatal("the ephemeral port is not resolved")
	}
	if _, err := reserve(t, got); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("second reservation: %v, want a conflict", err)
	}
	if l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", got.HostPort)); err == nil {
		l.Close()
		t.Error("another program could listen on a reserved port")
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := reserve(t, got); err != nil {
		t.Errorf("after Close: %v", err)
	}
}

func TestReserveTakesAllOrNothing(t *testing.T) {
	busy := listen(t, "tcp4", "0.0.0.0:0")
	free, err := reserve(t, PortMapping{ContainerPort: 80, Proto: "tcp"})
	if err != nil {
		t.Fatal(err)
	}
	p := free.Ports()[0]
	free.Close()
	if _, err := reserve(t, p, PortMapping{HostPort: busy, ContainerPort: 81, Proto: "tcp"}); err == nil {
		t.Fatal("a busy port was reserved")
	}
	if _, err := reserve(t, p); err != nil {
		t.Errorf("the free one is still held: %v", err)
	}
}

func TestReserveRange(t *testing.T) {
	busy := listen(t, "tcp4", "127.0.0.1:0")
	r, err := reserve(t, PortMapping{
		HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: busy, HostPortEnd: busy + 20, ContainerPort: 80, Proto: "tcp",
	})
	if err != nil {
		t.Fatal(err)
	}
	if p := r.Ports()[0]; p.HostPort <= busy || p.HostPortEnd != 0 {
		t.Errorf("got %+v, want a port behind %d", p, busy)
	}
	_, err = reserve(t, PortMapping{
		HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: busy, HostPortEnd: busy, ContainerPort: 80, Proto: "tcp",
	})
	if !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("full range: %v, want a conflict", err)
	}
}

// A server that has just ended leaves connections in TIME_WAIT; its port is free
// all the same.
func TestReserveSeesPastTimeWait(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddrPort(l.Addr().String())
	client, err := net.Dial("tcp4", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	server.Close() // the side that closes first keeps TIME_WAIT
	client.Read(make([]byte, 1))
	client.Close()
	l.Close()
	p := PortMapping{HostPort: addr.Port(), ContainerPort: 80, Proto: "tcp"}
	if _, err := reserve(t, p); err != nil {
		t.Fatal(err)
	}
	if _, err := reserve(t, p); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("second reservation: %v, want a conflict", err)
	}
}

func TestReserveRefusesForeignAddress(t *testing.T) {
	_, err := reserve(t, on("203.0.113.77", tcp(8080, 80)))
	if !errors.Is(err, errdefs.ErrInvalid) || !strings.Contains(err.Error(), "the host has no address 203.0.113.77") {
		t.Errorf("got %v", err)
	}
}
