package network

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"box/internal/errdefs"
)

// PortMapping publishes one port of a container on the host.
type PortMapping struct {
	// HostIP limits the port to one address of the host; the zero value and
	// 0.0.0.0 mean all of them.
	HostIP netip.Addr `json:"hostIP,omitzero"`
	// HostPort is the port on the host; 0 asks for any free one.
	HostPort uint16 `json:"hostPort"`
	// HostPortEnd, if not 0, makes HostPort the begin of a range from which the
	// first free port is taken ("8000-8010:80").
	HostPortEnd uint16 `json:"hostPortEnd,omitempty"`
	// ContainerPort is the port inside the container, never 0.
	ContainerPort uint16 `json:"containerPort"`
	// Proto is "tcp" or "udp".
	Proto string `json:"proto"`
}

// AnyAddress tells whether the port is published on all addresses of the host.
func (p PortMapping) AnyAddress() bool {
	return !p.HostIP.IsValid() || p.HostIP.IsUnspecified()
}

// String is the mapping as Docker prints it: "0.0.0.0:8080->80/tcp".
func (p PortMapping) String() string {
	ip := "0.0.0.0"
	if !p.AnyAddress() {
		ip = p.HostIP.String()
	}
	host := strconv.Itoa(int(p.HostPort))
	if p.HostPortEnd != 0 {
		host += "-" + strconv.Itoa(int(p.HostPortEnd))
	}
	return fmt.Sprintf("%s:%s->%d/%s", ip, host, p.ContainerPort, p.Proto)
}

// overlaps tells whether both mappings claim the same host port.
func (p PortMapping) overlaps(q PortMapping) bool {
	return p.Proto == q.Proto && p.HostPort == q.HostPort &&
		(p.AnyAddress() || q.AnyAddress() || p.HostIP == q.HostIP)
}

// ParsePorts reads Docker's -p syntax, [IP:][HOST[-HOST]:]CONTAINER[-CONTAINER][/PROTO].
// Without a host port, or with 0, any free one is meant. Ranges of equal length are mapped
// one to one; a host range before a single container port means the first free
// of them. Errors are of class errdefs.ErrInvalid, or ErrUnsupported for IPv6
// addresses and sctp.
func ParsePorts(spec string) ([]PortMapping, error) {
	ip, host, container, proto, err := splitPorts(spec)
	if err != nil {
		return nil, err
	}
	cFirst, cLast, err := parseRange(spec, container)
	if err != nil {
		return nil, err
	}
	if host == "" || host == "0" {
		return portRange(PortMapping{HostIP: ip, Proto: proto}, cFirst, cLast, false), nil
	}
	hFirst, hLast, err := parseRange(spec, host)
	if err != nil {
		return nil, err
	}
	m := PortMapping{HostIP: ip, HostPort: hFirst, Proto: proto}
	switch {
	case hLast-hFirst == cLast-cFirst:
		return portRange(m, cFirst, cLast, true), nil
	case cFirst == cLast:
		m.HostPortEnd, m.ContainerPort = hLast, cFirst
		return []PortMapping{m}, nil
	}
	return nil, badPort(spec, "the ranges %s and %s differ in length", host, container)
}

// portRange is m for each container port from first to last; with step the host
// port advances with it.
func portRange(m PortMapping, first, last uint16, step bool) []PortMapping {
	out := make([]PortMapping, 0, int(last-first)+1)
	for i := 0; i <= int(last-first); i++ {
		p := m
		p.ContainerPort = first + uint16(i)
		if step {
			p.HostPort = m.HostPort + uint16(i)
		}
		out = append(out, p)
	}
	return out
}

// splitPorts takes spec apart; host is empty if none was given.
func splitPorts(spec string) (ip netip.Addr, host, container, proto string, err error) {
	rest, proto, err := splitProto(spec)
	if err != nil {
		return ip, "", "", "", err
	}
	container = rest
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		container, rest = rest[i+1:], rest[:i]
		host = rest
		if j := strings.LastIndexByte(rest, ':'); j >= 0 {
			host = rest[j+1:]
			ip, err = parseHostIP(spec, rest[:j])
		}
	}
	if err == nil && container == "" {
		err = badPort(spec, "the container's port is missing")
	}
	return ip, host, container, proto, err
}

func splitProto(spec string) (rest, proto string, err error) {
	rest, proto, found := strings.Cut(spec, "/")
	if !found {
		return rest, "tcp", nil
	}
	switch proto = strings.ToLower(proto); proto {
	case "tcp", "udp":
		return rest, proto, nil
	case "sctp":
		return "", "", errdefs.New(errdefs.ErrUnsupported, "parse port %q: protocol sctp is not supported", spec)
	}
	return "", "", badPort(spec, "unknown protocol %q (known: tcp, udp)", proto)
}

func parseHostIP(spec, s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, badPort(spec, "the host's address is empty")
	}
	ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	if err != nil {
		return ip, badPort(spec, "%q is not an IP address", s)
	}
	if ip = ip.Unmap(); !ip.Is4() {
		return ip, errdefs.New(errdefs.ErrUnsupported,
			"parse port %q: publishing on an IPv6 address is not supported", spec)
	}
	return ip, nil
}

// parseRange reads "80" or "80-90".
func parseRange(spec, s string) (first, last uint16, err error) {
	a, b, isRange := strings.Cut(s, "-")
	if !isRange {
		b = a
	}
	if first, err = parsePort(spec, a); err != nil {
		return 0, 0, err
	}
	if last, err = parsePort(spec, b); err != nil {
		return 0, 0, err
	}
	if last < first {
		return 0, 0, badPort(spec, "the range %s runs backwards", s)
	}
	return first, last, nil
}

func parsePort(spec, s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, badPort(spec, "%q is not a port (1 to 65535)", s)
	}
	return uint16(n), nil
}

func badPort(spec, format string, a ...any) error {
	return errdefs.New(errdefs.ErrInvalid, "parse port %q: %s", spec, fmt.Sprintf(format, a...))
}
