package monitor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/internal/sys"
	"box/pkg/network"
	"box/pkg/ocirt"
	"box/pkg/overlay"
	"box/pkg/record"
)

// prepare does what needs no record, while the engine is still writing it: the
// socket, and with the bridge the network namespace under its name.
func (m *monitor) prepare() (err error) {
	listener, err := m.store.Listen(m.id)
	if err != nil {
		return err
	}
	m.server = newServer(listener, m)
	if m.mode != modeBridge {
		return nil
	}
	if m.netns, err = network.NewNamespace(); err != nil {
		return err
	}
	if err := m.nameNamespace(); err != nil {
		return err
	}
	m.network, err = network.Open(m.store.Root(), m.store.RunRoot())
	return err
}

// setup does what must be there before the runtime starts. The root is mounted
// while the network is made.
func (m *monitor) setup(ctx context.Context) error {
	mounted := make(chan error, 1)
	go func() { mounted <- m.mountRoot() }()
	err := m.setupNetwork(ctx)
	return errors.Join(<-mounted, err)
}

// Network modes; package engine has checked them.
const (
	modeBridge = "bridge"
	modeHost   = "host"
)

func (m *monitor) setupNetwork(ctx context.Context) error {
	switch m.record.Host.NetworkMode {
	case modeBridge:
		return m.attachNetwork(ctx)
	case modeHost:
		// The host's own addresses serve; its names should too.
		data, err := os.ReadFile("/etc/hosts")
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("read the host's names: %w", err)
		}
		return m.writeHosts(data)
	}
	return m.writeHosts(network.Hosts(m.record.Config.Hostname, netip.Addr{}, m.extraHosts(netip.Addr{})))
}

// mountRoot mounts the container's tree in our own mount namespace and makes
// its working directory, as Docker does.
func (m *monitor) mountRoot() error {
	ov, err := overlay.Open(m.snapshots())
	if err != nil {
		return err
	}
	active, err := ov.Active(m.id)
	if err != nil {
		return err
	}
	if m.record.Host.AutoRemove {
		// What it writes is thrown away at its end: no need to bring it to the disk
		// first, which unmounting would do, for the whole file system below.
		active = active.Volatile()
	}
	if err := active.Mount(m.rootfs()); err != nil {
		return err
	}
	return makeWorkingDir(m.rootfs(), m.record.Config.WorkingDir)
}

func (m *monitor) rootfs() string { return filepath.Join(m.store.Dir(m.id), record.RootfsDir) }

// makeWorkingDir makes the directory inside the root, whatever links the image
// has on the way (CVE-2026-55686).
func makeWorkingDir(rootfs, dir string) error {
	if dir == "" || dir == "/" {
		return nil
	}
	root, err := os.OpenFile(rootfs, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open root file system: %w", err)
	}
	defer root.Close()
	made, err := sys.MkdirAllInRoot(root, dir, 0o755)
	if err != nil {
		return fmt.Errorf("make working directory %s: %w", dir, err)
	}
	return made.Close()
}

func (m *monitor) snapshots() string { return filepath.Join(m.store.Root(), "snapshots") }

// attachNetwork reserves the ports and connects the namespace to the bridge.
func (m *monitor) attachNetwork(ctx context.Context) (err error) {
	if m.ports, err = network.Reserve(mappings(m.record.Host.Ports)); err != nil {
		return err
	}
	lease, err := m.network.Attach(ctx, m.netns, network.Endpoint{
		ContainerID: m.id, Name: m.record.Name, Hostname: m.record.Config.Hostname, Ports: m.ports.Ports(),
	})
	if err != nil {
		return err
	}
	m.attached = true
	m.record.Network = recordNetwork(lease, m.ports.Ports())
	return m.writeHosts(network.Hosts(m.record.Config.Hostname, lease.IP, m.extraHosts(lease.Gateway)))
}

// bridgeGrace is how long an unused bridge stays for the next container: enough
// for a loop of short ones to share it.
const bridgeGrace = 300 * time.Millisecond

// settleNetwork is the very last thing, when everybody has been told. It is
// done by the manager that attached, which keeps its sockets open for it.
func (m *monitor) settleNetwork(ctx context.Context) {
	if m.attached {
		_ = m.network.Settle(ctx, bridgeGrace) // the next Settle or Sweep tries again
	}
}

// nameNamespace gives the namespace the path that config.json knows. The mount
// is in our mount namespace and goes with it.
func (m *monitor) nameNamespace() error {
	path := record.NetnsPath(m.lock.Dir())
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return fmt.Errorf("name network namespace: %w", err)
	}
	_ = f.Close() // nothing written
	raw, err := m.netns.SyscallConn()
	if err != nil {
		return err
	}
	var mountErr error
	err = raw.Control(func(fd uintptr) {
		mountErr = unix.Mount(fmt.Sprintf("/proc/self/fd/%d", fd), path, "", unix.MS_BIND, "")
	})
	if err = errors.Join(err, mountErr); err != nil {
		return fmt.Errorf("name network namespace %s: %w", path, err)
	}
	return nil
}

func mappings(ports []record.Port) []network.PortMapping {
	var all []network.PortMapping
	for _, p := range ports {
		m := network.PortMapping{HostPort: p.HostPort, HostPortEnd: p.HostPortEnd, ContainerPort: p.ContainerPort, Proto: p.Proto}
		m.HostIP, _ = netip.ParseAddr(p.HostIP) // empty stays the zero value: every address
		all = append(all, m)
	}
	return all
}

func recordNetwork(l *network.Lease, ports []network.PortMapping) record.Network {
	n := record.Network{
		IPAddress: l.IP.String(), PrefixLen: l.Subnet.Bits(),
		Gateway: l.Gateway.String(), MacAddress: l.MAC.String(),
	}
	for _, p := range ports {
		port := record.Port{HostPort: p.HostPort, ContainerPort: p.ContainerPort, Proto: p.Proto}
		if p.HostIP.IsValid() {
			port.HostIP = p.HostIP.String()
		}
		n.Ports = append(n.Ports, port)
	}
	return n
}

// extraHosts turns "name:address" into entries; host-gateway stands for the
// bridge's address and is left out where there is none.
func (m *monitor) extraHosts(gateway netip.Addr) []network.HostEntry {
	var all []network.HostEntry
	for _, entry := range m.record.Host.ExtraHosts {
		name, addr, _ := strings.Cut(entry, ":")
		ip, err := netip.ParseAddr(addr)
		if addr == "host-gateway" {
			ip, err = gateway, nil
		}
		if err == nil && ip.IsValid() {
			all = append(all, network.HostEntry{Name: name, IP: ip})
		}
	}
	return all
}

// writeHosts fills the file that is mounted over /etc/hosts.
func (m *monitor) writeHosts(content []byte) error {
	path := filepath.Join(m.store.Dir(m.id), record.HostsFile)
	// In place: the file may be a bind mount's source later, and its directory
	// is ours alone.
	if err := os.WriteFile(path, content, 0o644); err != nil {
		return fmt.Errorf("write hosts: %w", err)
	}
	return nil
}

func (m *monitor) runtime() ocirt.Runtime {
	return ocirt.Runtime{Path: m.record.Runtime.Path, Root: m.record.Runtime.Root}
}

// failedEvent gives an error the exit code that a command line ends with.
func failedEvent(err error) record.Event {
	code := ocirt.CommandExitCode(err)
	if code == 0 {
		code = engineFailed
	}
	return record.Failed(err, code)
}

// engineFailed is Docker's exit code for "the engine itself failed".
const engineFailed = 125

var errNoPid = errdefs.New(errdefs.ErrCorrupt, "run container: the runtime has written no process id")
