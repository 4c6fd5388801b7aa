package network

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"
)

// resolvers are the places of the host's resolver configuration. The first is
// what programs read; the others list the true servers where the first only
// names a stub on the host's loopback, which a container cannot reach.
var resolvers = []string{
	"/etc/resolv.conf",
	"/run/systemd/resolve/resolv.conf",
	"/run/NetworkManager/no-stub-resolv.conf",
}

// HostResolvConf is the content of /etc/resolv.conf for a container on the
// bridge: the host's own, without name servers that the container cannot reach
// (loopback, IPv6). If none is left, the true servers behind systemd-resolved's or
// NetworkManager's stub are used. If there are none of these either, the result
// has no name server and says so in a comment: no public resolver is chosen
// behind the user's back. A missing file is not an error.
//
// A container that shares the host's network takes the host's file as it is.
func HostResolvConf() ([]byte, error) {
	return resolvConf(resolvers)
}

func resolvConf(paths []string) ([]byte, error) {
	var first []byte
	for i, path := range paths {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read name servers of the host: %w", err)
		}
		kept, servers := reachableServers(data)
		if servers > 0 {
			return kept, nil
		}
		if i == 0 {
			first = kept
		}
	}
	return append(first, "# box: the host names no name server that a container can reach\n"...), nil
}

// reachableServers is data without unreachable name servers, and the number of
// those that stay.
func reachableServers(data []byte) (kept []byte, servers int) {
	for line := range strings.Lines(string(data)) {
		ip, isServer := nameserver(line)
		if isServer && (!ip.Is4() || ip.IsLoopback()) {
			continue
		}
		if isServer {
			servers++
		}
		kept = append(kept, line...)
	}
	if len(kept) > 0 && !bytes.HasSuffix(kept, []byte("\n")) {
		kept = append(kept, '\n')
	}
	return kept, servers
}

// nameserver reads the address from a "nameserver" line of resolv.conf(5).
func nameserver(line string) (ip netip.Addr, is bool) {
	f := strings.Fields(line)
	if len(f) < 2 || f[0] != "nameserver" {
		return ip, false
	}
	ip, _ = netip.ParseAddr(f[1]) // the zero value counts as unreachable
	return ip.Unmap(), true
}

// HostEntry is a line of /etc/hosts.
type HostEntry struct {
	Name string
	IP   netip.Addr
}

// Hosts is the content of /etc/hosts in a container: the loopback names, the
// extra entries, and the container's own address. ip may be the zero value (no
// network), then the host name gets no line, as with Docker.
func Hosts(hostname string, ip netip.Addr, extra []HostEntry) []byte {
	b := []byte("127.0.0.1\tlocalhost\n" +
		"::1\tlocalhost ip6-localhost ip6-loopback\n" +
		"fe00::0\tip6-localnet\n" +
		"ff00::0\tip6-mcastprefix\n" +
		"ff02::1\tip6-allnodes\n" +
		"ff02::2\tip6-allrouters\n")
	for _, e := range extra {
		b = fmt.Appendf(b, "%s\t%s\n", e.IP, e.Name)
	}
	if ip.IsValid() && hostname != "" {
		b = fmt.Appendf(b, "%s\t%s\n", ip, hostname)
		if short, _, dotted := strings.Cut(hostname, "."); dotted {
			b = append(bytes.TrimSuffix(b, []byte("\n")), " "+short+"\n"...)
		}
	}
	return b
}
