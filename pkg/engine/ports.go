package engine

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode"

	"box/internal/errdefs"
	"box/pkg/network"
	"box/pkg/record"
)

// publish collects the ports to publish: those of -p, and with -P every exposed
// one that -p does not name, on an ephemeral port.
func publish(o CreateOptions, exposed []string) ([]record.Port, error) {
	var all []record.Port
	named := map[string]bool{}
	for _, arg := range o.Publish {
		mappings, err := network.ParsePorts(arg)
		if err != nil {
			return nil, err
		}
		for _, m := range mappings {
			named[fmt.Sprintf("%d/%s", m.ContainerPort, m.Proto)] = true
			all = append(all, recordPort(m))
		}
	}
	if !o.PublishAll {
		return all, nil
	}
	for _, port := range exposed {
		if named[port] {
			continue
		}
		mappings, err := network.ParsePorts(port)
		if err != nil {
			return nil, fmt.Errorf("exposed port: %w", err)
		}
		for _, m := range mappings {
			all = append(all, recordPort(m))
		}
	}
	return all, nil
}

func recordPort(m network.PortMapping) record.Port {
	p := record.Port{HostPort: m.HostPort, HostPortEnd: m.HostPortEnd, ContainerPort: m.ContainerPort, Proto: m.Proto}
	if m.HostIP.IsValid() {
		p.HostIP = m.HostIP.String()
	}
	return p
}

// checkExtraHost accepts "name:address"; the address may hold colons itself.
func checkExtraHost(entry string) error {
	name, addr, ok := strings.Cut(entry, ":")
	// A blank or a line break would make another entry of the rest.
	if !ok || name == "" || strings.ContainsFunc(name, func(c rune) bool { return unicode.IsSpace(c) || unicode.IsControl(c) || c == '#' }) {
		return errdefs.New(errdefs.ErrInvalid, "host entry %q is not NAME:ADDRESS", entry)
	}
	if addr == "host-gateway" {
		return nil // the bridge's own address, known at start
	}
	if _, err := netip.ParseAddr(addr); err != nil {
		return errdefs.New(errdefs.ErrInvalid, "host entry %q: %w", entry, err)
	}
	return nil
}
