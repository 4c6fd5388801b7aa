package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"box/internal/atomicfile"
)

// state is what this run root has in the kernel, or may have: it is written
// before things are made and corrected after they were removed.
type state struct {
	// Boot and NetNS name the life of the kernel objects: the boot, and the
	// host's network namespace by inode. State of another life is void.
	Boot  string `json:"boot"`
	NetNS uint64 `json:"netns"`
	site
	// MTU and Uplink are those of the host's default route when the bridge was made.
	MTU    int    `json:"mtu"`
	Uplink string `json:"uplink,omitempty"`
	// Generation is the kernel's nftables generation at which table and accept
	// rules were known to be right; 0 means unknown.
	Generation uint32 `json:"generation"`
	// Foreign are the chains of others that hold our accept rules.
	Foreign []foreignChain `json:"foreign,omitempty"`
	// Last is the address given out last. Seq counts attachments, from a number
	// that differs from one life of the state to the next.
	Last   netip.Addr       `json:"last,omitzero"`
	Seq    uint32           `json:"seq"`
	Leases map[string]lease `json:"leases"`
	// Ending are the host's ends of pairs that were given up, and when. They go
	// with the container's namespace, which the kernel may keep for minutes when a
	// connection in it waits for its last acknowledgement.
	Ending map[string]time.Time `json:"ending,omitempty"`
	// Idle is when the last lease went.
	Idle time.Time `json:"idle,omitzero"`
}

// lease is what one container has.
type lease struct {
	IP       netip.Addr    `json:"ip"`
	Veth     string        `json:"veth"`
	Name     string        `json:"name,omitempty"`
	Hostname string        `json:"hostname,omitempty"`
	Ports    []PortMapping `json:"ports,omitempty"`
}

// loadState reads path. A missing file, or one of another boot or another host
// namespace, is an empty state.
func loadState(path string) (*state, error) {
	boot, netns, err := kernelLife()
	if err != nil {
		return nil, err
	}
	fresh := &state{Boot: boot, NetNS: netns, Leases: map[string]lease{}, Seq: uint32(time.Now().UnixMilli())}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fresh, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read network state: %w", err)
	}
	s := &state{}
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("read network state %s: %w", path, err)
	}
	if s.Boot != boot || s.NetNS != netns {
		return fresh, nil
	}
	if s.Leases == nil {
		s.Leases = map[string]lease{}
	}
	return s, nil
}

// kernelLife identifies the boot and the calling thread's network namespace.
func kernelLife() (boot string, netns uint64, err error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", 0, fmt.Errorf("identify boot: %w", err)
	}
	var st syscall.Stat_t
	if err := syscall.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return "", 0, fmt.Errorf("identify network namespace: %w", err)
	}
	return strings.TrimSpace(string(id)), st.Ino, nil
}

// save writes the state to path, or removes the file if there is nothing that
// could have to be removed from the kernel. It need not survive a reboot.
func (s *state) save(path string) error {
	if s.Bridge == "" && len(s.Leases) == 0 && len(s.Ending) == 0 {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove network state: %w", err)
		}
		return nil
	}
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode network state: %w", err)
	}
	if err := atomicfile.WriteVolatile(path, data, 0o600); err != nil {
		return fmt.Errorf("write network state: %w", err)
	}
	return nil
}

// add gives id a lease. Ports that another lease holds move to the new one: its
// owner has bound the sockets, so the other container is dead. The result tells
// whether some other lease changed, so that the table must be made anew.
func (s *state) add(id string, l lease) (stolen bool) {
	if old, had := s.Leases[id]; had {
		s.end(old.Veth)
		stolen = true
	}
	for other, o := range s.Leases {
		kept := slices.DeleteFunc(slices.Clone(o.Ports), func(p PortMapping) bool {
			return slices.ContainsFunc(l.Ports, p.overlaps)
		})
		if len(kept) != len(o.Ports) {
			o.Ports, stolen = kept, true
			s.Leases[other] = o
		}
	}
	s.Leases[id], s.Last = l, l.IP
	s.Seq++
	s.Idle = time.Time{}
	return stolen
}

// remove takes id's lease away.
func (s *state) remove(id string) {
	s.end(s.Leases[id].Veth)
	delete(s.Leases, id)
	if len(s.Leases) == 0 {
		s.Idle = time.Now()
	}
}

// end notes a veth pair that is given up.
func (s *state) end(veth string) {
	if s.Ending == nil {
		s.Ending = map[string]time.Time{}
	}
	s.Ending[veth] = time.Now()
}

// used is the set of addresses that are taken.
func (s *state) used() map[netip.Addr]bool {
	m := make(map[netip.Addr]bool, len(s.Leases))
	for _, l := range s.Leases {
		m[l.IP] = true
	}
	return m
}

// vethName is the host's end of a pair: recognisable, at most 15 bytes, and new
// each time, because the pair of a container that is being restarted may still be
// on its way out.
func vethName(id string, seq uint32) string {
	id = strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' {
			return r
		}
		return -1
	}, id)
	return fmt.Sprintf("veth%.6s%x", id, seq&0xfffff)
}

// loadSite reads the bridge and subnet that were used last or that a person has
// set; ok is false if the file is missing.
func loadSite(root string) (s site, ok bool, err error) {
	path := filepath.Join(root, "bridge.json")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, false, nil
	}
	if err != nil {
		return s, false, fmt.Errorf("read bridge settings: %w", err)
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, false, fmt.Errorf("read bridge settings %s: %w", path, err)
	}
	return s, true, s.check(path)
}

// check refuses settings that could not work.
func (s site) check(path string) error {
	if s.Bridge == "" || len(s.Bridge) > 15 || strings.ContainsAny(s.Bridge, "/ \t\n") {
		return fmt.Errorf("read bridge settings %s: %q is not a name for a bridge", path, s.Bridge)
	}
	if !s.Subnet.Addr().Is4() || s.Subnet.Bits() < 8 || s.Subnet.Bits() > 29 {
		return fmt.Errorf("read bridge settings %s: %q is not an IPv4 subnet of /8 to /29", path, s.Subnet)
	}
	return nil
}

// saveSite remembers the site, so that addresses stay the same over restarts.
func saveSite(root string, s site) error {
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode bridge settings: %w", err)
	}
	if err := atomicfile.Write(filepath.Join(root, "bridge.json"), append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("write bridge settings: %w", err)
	}
	return nil
}
