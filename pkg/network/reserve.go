package network

import (
	"errors"
	"net/netip"
	"os"

	"box/internal/errdefs"

	"golang.org/x/sys/unix"
)

// Reservation holds the host's side of published ports: a bound socket per port,
// so that no other program can take the port, and a program that has it already
// is noticed. The sockets never listen: packets are redirected before they would
// reach them, and should the rules be gone, connections are refused rather than
// left hanging. The kernel drops the reservation with the process that holds it.
type Reservation struct {
	ports []PortMapping
	files []*os.File
}

// Reserve binds all ports, or none. Port 0 and ranges are resolved to the port
// that was found. A port that is taken gives an error of class
// errdefs.ErrConflict; an address that the host does not have, ErrInvalid.
func Reserve(ports []PortMapping) (*Reservation, error) {
	r := &Reservation{}
	for _, p := range ports {
		if err := r.add(p); err != nil {
			return nil, errors.Join(err, r.Close())
		}
	}
	return r, nil
}

// Ports are the mappings as asked for, with the host ports that were found.
func (r *Reservation) Ports() []PortMapping {
	return append([]PortMapping(nil), r.ports...)
}

// Close gives the ports back.
func (r *Reservation) Close() error {
	var errs []error
	for _, f := range r.files {
		errs = append(errs, f.Close())
	}
	r.files = nil
	return errors.Join(errs...)
}

// ephemeralTries bounds the search for a port that is free on IPv4 and IPv6 both.
const ephemeralTries = 16

func (r *Reservation) add(p PortMapping) error {
	if p.Proto != "tcp" && p.Proto != "udp" {
		return errdefs.New(errdefs.ErrUnsupported, "reserve port %s: protocol %q is not supported", p, p.Proto)
	}
	if p.HostPort == 0 {
		return r.addEphemeral(p)
	}
	last := max(p.HostPort, p.HostPortEnd)
	for port := p.HostPort; ; port++ {
		err := r.bind(p, port)
		if err == nil || port == last || !errors.Is(err, unix.EADDRINUSE) {
			return explainBind(p, err)
		}
	}
}

func (r *Reservation) addEphemeral(p PortMapping) (err error) {
	for range ephemeralTries {
		if err = r.bind(p, 0); !errors.Is(err, unix.EADDRINUSE) {
			break
		}
	}
	return explainBind(p, err)
}

// bind holds port on p's address, and for a port on all addresses on IPv6 too:
// nothing is published there yet, but "localhost" may mean ::1, and answering
// with another program's page would be worse than refusing.
func (r *Reservation) bind(p PortMapping, port uint16) error {
	ip := netip.IPv4Unspecified()
	if !p.AnyAddress() {
		ip = p.HostIP
	}
	f4, port, err := bindSocket(p.Proto, netip.AddrPortFrom(ip, port))
	if err != nil {
		return err
	}
	if p.AnyAddress() {
		f6, _, err := bindSocket(p.Proto, netip.AddrPortFrom(netip.IPv6Unspecified(), port))
		if errors.Is(err, unix.EADDRINUSE) {
			return errors.Join(err, f4.Close())
		}
		if err == nil { // any other error: a host without IPv6
			r.files = append(r.files, f6)
		}
	}
	p.HostPort, p.HostPortEnd = port, 0
	r.files, r.ports = append(r.files, f4), append(r.ports, p)
	return nil
}

// bindSocket binds a new socket and tells the port it got. A first attempt
// without SO_REUSEADDR also fails on connections in TIME_WAIT that some earlier
// server left; a second one with it sees past these, but not past a listener. The
// option is taken back at once: with it, a second box could share the port.
func bindSocket(proto string, to netip.AddrPort) (*os.File, uint16, error) {
	family, sa := sockaddr(to)
	kind := unix.SOCK_STREAM
	if proto == "udp" {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, 0, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), "reservation of "+to.String()+"/"+proto)
	if family == unix.AF_INET6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err == nil {
		err = unix.Bind(fd, sa)
	}
	if err == unix.EADDRINUSE && proto == "tcp" && to.Port() != 0 {
		err = bindPastTimeWait(fd, sa)
	}
	if err != nil {
		f.Close() //nolint:errcheck // nothing was bound
		return nil, 0, os.NewSyscallError("bind", err)
	}
	port, err := boundPort(fd)
	return f, port, err
}

func bindPastTimeWait(fd int, sa unix.Sockaddr) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if err := unix.Bind(fd, sa); err != nil {
		return err
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0)
}

func sockaddr(a netip.AddrPort) (family int, sa unix.Sockaddr) {
	if a.Addr().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func boundPort(fd int) (uint16, error) {
	sa, err := unix.Getsockname(fd)
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return uint16(sa.Port), nil
	case *unix.SockaddrInet6:
		return uint16(sa.Port), nil
	}
	return 0, os.NewSyscallError("getsockname", err)
}

// explainBind makes the sentence that the user reads.
func explainBind(p PortMapping, err error) error {
	ip := netip.IPv4Unspecified()
	if !p.AnyAddress() {
		ip = p.HostIP
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EADDRINUSE) && p.HostPort == 0:
		return errdefs.New(errdefs.ErrConflict, "no %s port is free on %s", p.Proto, ip)
	case errors.Is(err, unix.EADDRINUSE) && p.HostPortEnd != 0:
		return errdefs.New(errdefs.ErrConflict, "%s ports %d-%d are all in use on %s",
			p.Proto, p.HostPort, p.HostPortEnd, ip)
	case errors.Is(err, unix.EADDRINUSE):
		return errdefs.WithHint(
			errdefs.New(errdefs.ErrConflict, "%sport %d is already in use on %s", udpWord(p), p.HostPort, ip),
			"publish another port, for example -p %d:%d, or see who has it: ss -lp 'sport = :%d'",
			p.HostPort+1, p.ContainerPort, p.HostPort)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return errdefs.New(errdefs.ErrInvalid, "publish port %s: the host has no address %s", p, ip)
	}
	return errdefs.New(errdefs.ErrInvalid, "reserve port %s: %w", p, err)
}

func udpWord(p PortMapping) string {
	if p.Proto == "udp" {
		return "udp "
	}
	return ""
}
