// Package netdev brings network devices into a container: the loopback interface of a
// new network namespace comes up, by steps of its launch program (AddLoopback), and
// devices of the runtime's namespace are moved in, by the parent (Move).
//
// It makes no devices and configures none: what connects a container to a network is the
// engine's work, done before or by hooks. A device that has been moved belongs to its new
// namespace (config-linux.md, network devices): nobody moves it back; when the namespace
// ends, the kernel gives physical devices back and destroys the others.
//
// It speaks rtnetlink(7) itself, in a hundred lines: the library for it would be the
// largest thing that box-runtime links, for four kinds of messages.
package netdev

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"box/pkg/launch"
)

// ifreq is struct ifreq: sixteen bytes of name, then a union of twenty-four.
const (
	ifreqSize    = 40
	ifreqFlagsAt = unix.IFNAMSIZ
)

// RaiseLoopback brings lo up in the network namespace of the calling thread, as the
// steps of AddLoopback do in that of the program.
func RaiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open socket for interface lo: %w", err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("bring interface lo up: %w", err)
	}
	return nil
}

// AddLoopback adds the steps that bring lo up. A new namespace has nothing else to
// be changed on it: the kernel gives it its addresses when it comes up.
func AddLoopback(p *launch.Plan) {
	b := make([]byte, ifreqSize)
	copy(b, "lo")
	binary.NativeEndian.PutUint16(b[ifreqFlagsAt:], unix.IFF_UP)
	sock := p.Slot("socket")
	p.Add(
		launch.Step{
			Name: "open socket for interface lo", Why: "any socket reaches the interfaces of the namespace it is made in",
			Call: launch.Socket, Into: sock,
			Args: []launch.Arg{launch.Int(unix.AF_INET), launch.Int(unix.SOCK_DGRAM | unix.SOCK_CLOEXEC), launch.Int(0)},
		},
		launch.Step{
			Name: "bring interface lo up", Why: "a new network namespace has it down, and programs expect 127.0.0.1",
			Call: launch.Ioctl,
			Args: []launch.Arg{sock, launch.Int(unix.SIOCSIFFLAGS), launch.Bytes(b, func() string { return "{name=\"lo\", flags=IFF_UP}" })},
		},
	)
}
