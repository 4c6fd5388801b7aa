package netdev

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
)

// Check checks linux.netDevices: the names of devices outside and inside. An empty name
// inside is the one outside; a template such as eth%d lets the kernel choose the number.
func Check(devices map[string]specs.LinuxNetDevice) error {
	for _, name := range slices.Sorted(maps.Keys(devices)) {
		for _, n := range []string{name, inside(name, devices[name])} {
			if !validName(n) {
				return errdefs.New(errdefs.ErrInvalid, "linux.netDevices: invalid network device name %q", n)
			}
		}
	}
	return nil
}

// validName is the kernel's rule (net/core/dev.c, dev_valid_name).
func validName(name string) bool {
	return name != "" && len(name) < unix.IFNAMSIZ && name != "." && name != ".." && !strings.ContainsAny(name, "/: \t\n\v\f\r\x00") && !strings.Contains(name, "\xa0")
}

// inside is the device's name, or template, in the container.
func inside(name string, d specs.LinuxNetDevice) string {
	if d.Name != "" {
		return d.Name
	}
	return name
}

// Move moves devices from this process's network namespace to that of the process behind
// pidfd, whose number is pid, renames them and brings them up. They keep their permanent
// addresses of global scope, which the move itself takes from them; link-local ones and
// those from the network belong to the place where they were. Devices are moved in the
// order of their names. On failure the one that could not leave is what it was, and those
// that were moved stay where they are.
func Move(pid int, pidfd *os.File, devices map[string]specs.LinuxNetDevice) error {
	here, err := dial()
	if err != nil {
		return fmt.Errorf("move network devices: %w", err)
	}
	defer here.close()
	there, err := dialIn(pidfd)
	if err != nil {
		return fmt.Errorf("move network devices: %w", err)
	}
	defer there.close()
	for _, name := range slices.Sorted(maps.Keys(devices)) {
		m := mover{here, there, pid, name, inside(name, devices[name])}
		if err := m.move(); err != nil {
			return fmt.Errorf("move network device %s: %w", name, err)
		}
	}
	return nil
}

// dialIn makes a socket in the network namespace of a process. A socket stays where it
// was made; the thread that went there ends.
func dialIn(pidfd *os.File) (c *conn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked
		if err = unix.Setns(int(pidfd.Fd()), unix.CLONE_NEWNET); err != nil {
			err = fmt.Errorf("join network namespace: %w", err)
			return
		}
		c, err = dial()
	}()
	<-done
	return c, err
}

// mover moves one device.
type mover struct {
	here, there   *conn
	pid           int
	name, newName string
}

func (m *mover) move() error {
	dev, err := m.here.link(info(0, 0, 0), m.name)
	if errors.Is(err, unix.ENODEV) {
		return errdefs.New(errdefs.ErrNotFound, "link not found for interface %s on runtime namespace: %w", m.name, err)
	}
	if err != nil {
		return err
	}
	number, err := m.place(dev.index)
	if err != nil {
		return err
	}
	addresses, err := m.here.addresses(dev.index) // before it goes down, which loses those of IPv6
	if err != nil {
		return err
	}
	if err := m.here.setUp(dev.index, false); err != nil {
		return fmt.Errorf("set it down: %w", err)
	}
	if err := m.cross(dev.index, number); err != nil {
		return errors.Join(err, m.here.giveBack(dev, addresses))
	}
	if err := m.find(number); err != nil {
		return err
	}
	for _, a := range addresses {
		if err := m.there.addAddress(number, a); err != nil {
			return fmt.Errorf("give it its address back: %w", err)
		}
	}
	if err := m.there.setUp(number, true); err != nil {
		return fmt.Errorf("bring it up: %w", err)
	}
	return nil
}

// place looks, before anything is done to the device, whether there is room for it over
// there, and returns the number that it shall have. The kernel moves first and renames
// then: where the name is taken it would leave the device over there with its old one.
func (m *mover) place(index int) (number int, err error) {
	if !strings.Contains(m.newName, "%d") {
		if _, err := m.there.link(info(0, 0, 0), m.newName); !errors.Is(err, unix.ENODEV) {
			return 0, fmt.Errorf("as %s: %w", m.newName, cmp.Or(err, error(unix.EEXIST)))
		}
	}
	return m.there.freeIndex(index)
}

// cross moves and renames in one request, so that neither name is ever in the way in the
// wrong namespace. It says what number the device shall have over there.
func (m *mover) cross(index, number int) error {
	request := text(info(index, 0, 0), unix.IFLA_IFNAME, m.newName)
	request = attribute(request, unix.IFLA_NET_NS_PID, binary.NativeEndian.AppendUint32(nil, uint32(m.pid)))
	request = attribute(request, unix.IFLA_NEW_IFINDEX, binary.NativeEndian.AppendUint32(nil, uint32(number)))
	if _, err := m.here.call(unix.RTM_NEWLINK, 0, request); err != nil {
		return fmt.Errorf("as %s: %w", m.newName, err)
	}
	return nil
}

// find looks whether the device is found by that number over there, whatever the kernel
// has made of a template.
func (m *mover) find(number int) error {
	dev, err := m.there.link(info(number, 0, 0), "")
	if err == nil && dev.name != m.newName && !strings.Contains(m.newName, "%d") {
		err = unix.ENODEV // before Linux 5.13 the number is the kernel's own choice
	}
	if err != nil {
		return fmt.Errorf("find it again as %s: %w", m.newName, err)
	}
	return nil
}

// giveBack makes a device that could not leave what it was: the host needs it.
func (c *conn) giveBack(dev device, addresses [][]byte) error {
	if !dev.up {
		return nil
	}
	if err := c.setUp(dev.index, true); err != nil {
		return fmt.Errorf("bring it up again: %w", err)
	}
	for _, a := range addresses {
		if err := c.addAddress(dev.index, a); err != nil && !errors.Is(err, unix.EEXIST) { // those of IPv4 have stayed
			return fmt.Errorf("give it its address back: %w", err)
		}
	}
	return nil
}

// device is what is known of a network device in its namespace.
type device struct {
	index int
	name  string
	up    bool
}

// link looks a device up by name or, if that is empty, by the number in the header.
func (c *conn) link(header []byte, name string) (device, error) {
	if name != "" {
		header = text(header, unix.IFLA_IFNAME, name)
	}
	bodies, err := c.call(unix.RTM_GETLINK, 0, header)
	if err != nil {
		return device{}, err
	}
	if len(bodies) == 0 || len(bodies[0]) < infoSize {
		return device{}, unix.ENODEV
	}
	b := bodies[0]
	return device{
		int(binary.NativeEndian.Uint32(b[4:])), nameOf(b), binary.NativeEndian.Uint32(b[8:])&unix.IFF_UP != 0,
	}, nil
}

// nameOf is the name in the body of an answer about a device.
func nameOf(body []byte) string {
	return strings.TrimRight(string(attributes(body, infoSize)[unix.IFLA_IFNAME]), "\x00")
}

// freeIndex returns a number that no device of the namespace has: the wanted one, if it
// is free.
func (c *conn) freeIndex(want int) (int, error) {
	bodies, err := c.call(unix.RTM_GETLINK, unix.NLM_F_DUMP, info(0, 0, 0))
	if err != nil {
		return 0, fmt.Errorf("list devices: %w", err)
	}
	taken, highest := false, 0
	for _, b := range bodies {
		if len(b) < infoSize {
			continue
		}
		index := int(binary.NativeEndian.Uint32(b[4:]))
		taken, highest = taken || index == want, max(highest, index)
	}
	if taken {
		return highest + 1, nil
	}
	return want, nil
}

func (c *conn) setUp(index int, up bool) error {
	flags := uint32(0)
	if up {
		flags = unix.IFF_UP
	}
	_, err := c.call(unix.RTM_NEWLINK, 0, info(index, flags, unix.IFF_UP))
	return err
}

// kept are the attributes of an address that go with it. Its label may hold the old
// name, its lifetime is without end.
var kept = []uint16{unix.IFA_ADDRESS, unix.IFA_LOCAL, unix.IFA_BROADCAST, unix.IFA_RT_PRIORITY}

// keptFlags are what somebody has said of an address; the others are its state.
const keptFlags = unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_NODAD | unix.IFA_F_HOMEADDRESS | unix.IFA_F_MCAUTOJOIN | unix.IFA_F_MANAGETEMPADDR

// addresses returns the permanent addresses of global scope that a device has, as bodies
// of requests to add them.
func (c *conn) addresses(index int) (list [][]byte, err error) {
	bodies, err := c.call(unix.RTM_GETADDR, unix.NLM_F_DUMP, make([]byte, addrSize))
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, b := range bodies {
		if len(b) < addrSize || int(binary.NativeEndian.Uint32(b[4:])) != index || b[3] != unix.RT_SCOPE_UNIVERSE {
			continue
		}
		all := attributes(b, addrSize)
		flags := uint32(b[2])
		if wide := all[unix.IFA_FLAGS]; len(wide) == 4 {
			flags = binary.NativeEndian.Uint32(wide)
		}
		if flags&unix.IFA_F_PERMANENT == 0 {
			continue
		}
		request := append([]byte(nil), b[:addrSize]...)
		request[2] = 0
		for _, kind := range kept {
			if value, ok := all[kind]; ok {
				request = attribute(request, kind, value)
			}
		}
		list = append(list, number(request, unix.IFA_FLAGS, flags&keptFlags))
	}
	return list, nil
}

// addAddress adds an address to a device, which may have another number now.
func (c *conn) addAddress(index int, request []byte) error {
	binary.NativeEndian.PutUint32(request[4:], uint32(index))
	_, err := c.call(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, request)
	return err
}
