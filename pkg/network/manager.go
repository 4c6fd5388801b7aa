package network

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"box/internal/atomicfile"
	"box/internal/errdefs"

	"golang.org/x/sys/unix"
)

// Manager is the network of one run root. Any number of processes, and of
// goroutines, may use the same roots at once; no lock is held between calls.
//
// All methods work on the network namespace of the calling thread as the host's;
// it must be the same one for all calls.
type Manager struct {
	config string // directory of bridge.json, survives reboots
	volume string // directory of state.json and lock
	key    string // absolute run root: whose bridge it is

	mu sync.Mutex // guards fw
	fw *firewall  // opened when needed
}

// Endpoint is what a container wants of the network.
type Endpoint struct {
	// ContainerID names the lease; attaching the same id again replaces it.
	ContainerID string
	// Name and Hostname are kept with the lease for name look-ups.
	Name, Hostname string
	// Ports are to be published. Host ports must be resolved (see Reserve).
	Ports []PortMapping
}

// Lease is what a container got.
type Lease struct {
	IP      netip.Addr
	Subnet  netip.Prefix
	Gateway netip.Addr
	MAC     net.HardwareAddr
	MTU     int
	// Bridge and Veth are the links on the host.
	Bridge, Veth string
	Ports        []PortMapping
}

// Prefix is the address with the length of the subnet, as in "10.210.0.2/20".
func (l Lease) Prefix() netip.Prefix { return netip.PrefixFrom(l.IP, l.Subnet.Bits()) }

// Open prepares the network that is kept under root (settings) and runroot (what
// is in the kernel); only directories are made.
func Open(root, runroot string) (*Manager, error) {
	key, err := filepath.Abs(runroot)
	if err != nil {
		return nil, fmt.Errorf("open network: %w", err)
	}
	m := &Manager{config: filepath.Join(root, "network"), volume: filepath.Join(key, "network"), key: key}
	for _, dir := range []string{m.config, m.volume} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("open network: %w", err)
		}
	}
	return m, nil
}

func (m *Manager) statePath() string { return filepath.Join(m.volume, "state.json") }

// locked runs f with the lock held on the current state, and saves the state
// afterwards, whatever f returned: f records in it what it could not finish.
func (m *Manager) locked(ctx context.Context, f func(*state) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	lock, err := atomicfile.LockContext(ctx, filepath.Join(m.volume, "lock"))
	if err != nil {
		return fmt.Errorf("lock network: %w", err)
	}
	defer lock.Unlock() //nolint:errcheck // the kernel drops it with the descriptor
	st, err := loadState(m.statePath())
	if err != nil {
		return err
	}
	err = f(st)
	return errors.Join(err, st.save(m.statePath()))
}

// firewall returns the open firewall. The caller holds the lock.
func (m *Manager) firewall() (*firewall, error) {
	if m.fw != nil {
		return m.fw, nil
	}
	fw, err := openFirewall()
	if err == nil {
		m.fw = fw
	}
	return fw, err
}

// Close gives back what the manager keeps open. A process that ends need not call
// it.
func (m *Manager) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fw != nil {
		m.fw.close()
		m.fw = nil
	}
}

// Attach connects netns to the bridge as eth0 and publishes ep's ports. On
// failure everything is taken back. netns must stay open as long as the container
// lives; the host's links go away with it.
func (m *Manager) Attach(ctx context.Context, netns *os.File, ep Endpoint) (*Lease, error) {
	if err := ep.check(); err != nil {
		return nil, err
	}
	var lease *Lease
	err := m.locked(ctx, func(st *state) (err error) {
		lease, err = m.attach(st, netns, ep)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("attach container %.12s to the network: %w", ep.ContainerID, err)
	}
	return lease, nil
}

// check refuses what Attach could not carry out.
func (ep Endpoint) check() error {
	if ep.ContainerID == "" {
		return errdefs.New(errdefs.ErrInvalid, "attach to the network: the container's id is empty")
	}
	for i, p := range ep.Ports {
		if p.HostPort == 0 || p.HostPortEnd != 0 || p.ContainerPort == 0 {
			return errdefs.New(errdefs.ErrInvalid, "publish port %s: the port is not resolved", p)
		}
		for _, q := range ep.Ports[:i] {
			if p.overlaps(q) {
				return errdefs.New(errdefs.ErrConflict, "publish port %s: port %d is published twice", p, p.HostPort)
			}
		}
	}
	return nil
}

// attach is Attach under the lock. The lease is on disk before the kernel hears of
// it; a replaced lease's elements go with the table that is then made anew.
func (m *Manager) attach(st *state, netns *os.File, ep Endpoint) (*Lease, error) {
	l, err := openLinks()
	if err != nil {
		return nil, err
	}
	defer l.Close()
	bridge, err := m.bridge(st, l)
	if err != nil {
		return nil, err
	}
	ip, err := nextAddress(st.Subnet, st.Last, st.used())
	if err != nil {
		return nil, err
	}
	given := lease{
		IP: ip, Veth: vethName(ep.ContainerID, st.Seq),
		Name: ep.Name, Hostname: ep.Hostname, Ports: ep.Ports,
	}
	c := change{added: []lease{given}}
	c.rebuild = st.add(ep.ContainerID, given)
	if err := st.save(m.statePath()); err != nil {
		return nil, err
	}
	p := pair{host: given.Veth, bridge: bridge, mtu: st.MTU, ip: ip, subnet: st.Subnet}
	if err := m.connectAndPublish(st, l, p, netns, c); err != nil {
		return nil, errors.Join(err, m.release(st, ep.ContainerID), reap(st, l, time.Now()))
	}
	return &Lease{
		IP: ip, Subnet: st.Subnet, Gateway: gateway(st.Subnet), MAC: containerMAC(ip), MTU: st.MTU,
		Bridge: st.Bridge, Veth: given.Veth, Ports: ep.Ports,
	}, nil
}

func (m *Manager) connectAndPublish(st *state, l links, p pair, netns *os.File, c change) error {
	if err := l.connect(p, netns); err != nil {
		return err
	}
	if err := allowForwarding(st.Bridge, c.added); err != nil {
		return err
	}
	fw, err := m.firewall()
	if err != nil {
		return err
	}
	if err := fw.sync(st, c); err != nil {
		return err
	}
	return fw.forgetFlows(c.added)
}

// allowForwarding lets the host route for containers, and, if a port may be
// called by way of 127.0.0.1, lets loopback addresses onto the bridge (the guard
// chain keeps containers from making use of that).
func allowForwarding(bridge string, leases []lease) error {
	on, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	if err != nil {
		return fmt.Errorf("read sysctl: %w", err)
	}
	if strings.TrimSpace(string(on)) == "0" {
		if err := writeSysctl("ipv4/ip_forward", "1"); err != nil {
			return err
		}
	}
	for _, l := range leases {
		for _, p := range l.Ports {
			if p.AnyAddress() || p.HostIP.IsLoopback() {
				return writeSysctl("ipv4/conf/"+bridge+"/route_localnet", "1")
			}
		}
	}
	return nil
}

// bridge returns the index of this run root's bridge, making it if necessary, at
// the site used last or else at the first one that is free.
func (m *Manager) bridge(st *state, l links) (index int, err error) {
	mac := bridgeMAC(m.key)
	if st.Bridge != "" {
		br, err := l.ownBridge(st.Bridge, mac)
		if err != nil {
			return 0, err
		}
		if br != nil {
			return br.Attrs().Index, l.furnishBridge(st.site, br, m.key)
		}
	}
	st.Generation = 0
	sites, err := m.sites(st, l)
	if err != nil {
		return 0, err
	}
	st.Uplink, st.MTU = l.uplink()
	for _, s := range sites {
		if index, err = m.claim(st, l, s, mac); index != 0 {
			return index, err
		}
		if err != nil && !errors.Is(err, unix.EEXIST) && !errors.Is(err, errdefs.ErrConflict) {
			return 0, err
		}
	}
	return 0, fmt.Errorf("make bridge: no name is free: %w", err)
}

// sites are the places to try, in order. While there are leases only the present
// one will do.
func (m *Manager) sites(st *state, l links) ([]site, error) {
	if len(st.Leases) > 0 {
		return []site{st.site}, nil
	}
	taken, err := l.taken()
	if err != nil {
		return nil, err
	}
	sites := preferredSites(m.key)
	last, ok, err := loadSite(m.config)
	if err != nil {
		return nil, err
	}
	if ok && last.Pinned {
		sites = []site{last}
	} else if ok {
		sites = append([]site{last}, sites...)
	}
	return freeSites(sites, taken)
}

// claim makes the bridge of s, or adopts one that this run root has made before
// and forgotten (killed in between). It is noted before it is made.
func (m *Manager) claim(st *state, l links, s site, mac net.HardwareAddr) (index int, err error) {
	br, err := l.ownBridge(s.Bridge, mac)
	if err != nil {
		return 0, err
	}
	known, _, err := loadSite(m.config)
	if err != nil {
		return 0, err
	}
	if known != s {
		if err := saveSite(m.config, s); err != nil {
			return 0, err
		}
	}
	before := st.site
	st.site = s
	if err := st.save(m.statePath()); err != nil {
		return 0, err
	}
	if br != nil {
		return br.Attrs().Index, l.furnishBridge(s, br, m.key)
	}
	if index, err = l.makeBridge(s, mac, st.MTU, m.key); index == 0 {
		st.site = before
	}
	return index, err
}

// Detach takes back what Attach gave to the container. Its links go with the
// network namespace, which the caller closes. A container that has nothing is not an
// error.
func (m *Manager) Detach(ctx context.Context, containerID string) error {
	if !m.inUse() {
		return nil
	}
	err := m.locked(ctx, func(st *state) error { return m.release(st, containerID) })
	if err != nil {
		return fmt.Errorf("detach container %.12s from the network: %w", containerID, err)
	}
	return nil
}

// inUse tells, without the lock, whether there may be anything in the kernel.
func (m *Manager) inUse() bool {
	_, err := os.Lstat(m.statePath())
	return !errors.Is(err, os.ErrNotExist)
}

// release removes the leases of ids: rules first, then the record of them.
func (m *Manager) release(st *state, ids ...string) error {
	var c change
	gone := map[string]lease{}
	for _, id := range ids {
		if l, ok := st.Leases[id]; ok {
			gone[id], c.removed = l, append(c.removed, l)
			st.remove(id)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	if err := m.unpublish(st, c); err != nil {
		maps.Copy(st.Leases, gone) // what is not gone is left to the next sweep
		return err
	}
	return nil
}

// repair puts right what others have done to the rules.
func (m *Manager) repair(st *state) error {
	fw, err := m.firewall()
	if err != nil {
		return err
	}
	return fw.sync(st, change{})
}

// unpublish removes the rules for c.removed, all rules if they were the last.
func (m *Manager) unpublish(st *state, c change) error {
	fw, err := m.firewall()
	if err != nil {
		return err
	}
	if len(st.Leases) == 0 {
		err = fw.clear(st)
	} else {
		err = fw.sync(st, c)
	}
	if err != nil {
		return err
	}
	return fw.forgetFlows(c.removed)
}

// Settle waits for grace and then removes the bridge, if no container has used the
// network meanwhile. The owner of a container calls it last, after it has told
// everybody that the container is gone, and then ends. Removing a bridge takes
// long and stops all other changes to links of the host for 10 to 20 ms, so
// containers in quick succession should share one; whoever attaches in between
// settles after itself. The container's links, too, are looked after: usually the
// kernel has removed them by then. The wait is worth it also while others use the
// bridge: see firewall for what the end of a process costs them otherwise.
func (m *Manager) Settle(ctx context.Context, grace time.Duration) error {
	if !m.inUse() {
		return nil
	}
	here, err := atomicfile.LockShared(m.settlingPath())
	if err != nil {
		return fmt.Errorf("settle network: %w", err)
	}
	defer here.Unlock() //nolint:errcheck // the kernel drops it with the descriptor
	start := time.Now()
	seq, err := m.sequence()
	if err != nil {
		return err
	}
	if err := wait(ctx, grace); err != nil {
		return err
	}
	err = m.locked(ctx, func(st *state) error {
		return m.tidy(st, start, len(st.Leases) == 0 && st.Seq == seq)
	})
	if err != nil {
		return fmt.Errorf("settle network: %w", err)
	}
	return nil
}

// settlingPath is the file on which everybody who settles holds a shared lock.
func (m *Manager) settlingPath() string { return filepath.Join(m.volume, "settling") }

// somebodySettles tells whether a living process will look after what is idle.
func (m *Manager) somebodySettles() (bool, error) {
	lock, free, err := atomicfile.TryLock(m.settlingPath())
	if err != nil {
		return false, fmt.Errorf("look for owners that settle: %w", err)
	}
	if !free {
		return true, nil
	}
	return false, lock.Unlock()
}

// wait lets d pass, unless ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// sequence counts attachments; it is read without the lock.
func (m *Manager) sequence() (uint32, error) {
	st, err := loadState(m.statePath())
	if err != nil {
		return 0, err
	}
	return st.Seq, nil
}

// tidy removes links that were given up before the given time and are still
// there, and the bridge if it is idle.
func (m *Manager) tidy(st *state, before time.Time, idle bool) error {
	if len(st.Ending) == 0 && !idle {
		return nil
	}
	l, err := openLinks()
	if err != nil {
		return err
	}
	defer l.Close()
	if idle {
		if err := errors.Join(m.dismantle(st, l), m.removeOrphans(l)); err != nil {
			return err
		}
	}
	return reap(st, l, before)
}

// dismantle removes the bridge of a state without leases.
func (m *Manager) dismantle(st *state, l links) error {
	if st.Bridge == "" {
		return nil
	}
	br, err := l.ownBridge(st.Bridge, bridgeMAC(m.key))
	if err != nil && !errors.Is(err, errdefs.ErrConflict) {
		return err
	}
	if br != nil {
		if err := l.removeBridge(br.Attrs().Index); err != nil {
			return err
		}
	}
	st.site = site{}
	return nil
}

// reap removes links that were given up before the given time and are still there.
func reap(st *state, l links, before time.Time) error {
	for veth, since := range st.Ending {
		if since.After(before) {
			continue
		}
		if err := l.removePair(veth); err != nil {
			return err
		}
		delete(st.Ending, veth)
	}
	return nil
}

// settleTime is how long what is idle is left to owners that are settling. Where
// nobody is, a sweep takes it for abandoned at once.
const settleTime = 5 * time.Second

// Sweep takes back what dead containers have left (killed owners), repairs rules
// that others have changed or flushed, and removes an abandoned bridge. alive tells
// whether the container's owner lives. Without anything in the kernel it costs one
// look at a file.
func (m *Manager) Sweep(ctx context.Context, alive func(containerID string) bool) error {
	if !m.inUse() {
		return nil
	}
	err := m.locked(ctx, func(st *state) error {
		var dead []string
		for id := range st.Leases {
			if !alive(id) {
				dead = append(dead, id)
			}
		}
		if err := m.release(st, dead...); err != nil {
			return err
		}
		before := time.Now()
		if settles, err := m.somebodySettles(); err != nil {
			return err
		} else if settles {
			before = before.Add(-settleTime)
		}
		if len(st.Leases) == 0 {
			return m.tidy(st, before, !st.Idle.After(before))
		}
		return errors.Join(m.repair(st), m.tidy(st, before, false))
	})
	if err != nil {
		return fmt.Errorf("sweep network: %w", err)
	}
	return nil
}
