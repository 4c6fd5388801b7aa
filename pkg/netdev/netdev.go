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
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"box/internal/bare"
	"box/pkg/launch"
)

// ifreq is struct ifreq: sixteen bytes of name, then a union of twenty-four.
const (
	ifreqSize    = 40
	ifreqFlagsAt = unix.IFNAMSIZ
)

// loopbackUp is the request that brings lo up.
var loopbackUp = [ifreqSize]byte{0: 'l', 1: 'o', ifreqFlagsAt: unix.IFF_UP}

// RaiseLoopback is the calls that bring lo up in the network namespace of the thread that
// makes them, as the steps of AddLoopback do in that of the program.
func RaiseLoopback() []*bare.Call {
	socket := &bare.Call{
		Name: "open socket for interface lo", Number: unix.SYS_SOCKET,
		First: bare.Value(unix.AF_INET), Second: unix.SOCK_DGRAM | unix.SOCK_CLOEXEC, Close: true,
	}
	return []*bare.Call{socket, {
		Name: "bring interface lo up", Number: unix.SYS_IOCTL,
		First: &socket.Result, Second: unix.SIOCSIFFLAGS, Third: uintptr(unsafe.Pointer(&loopbackUp)),
	}}
}

// AddLoopback adds the steps that bring lo up. A new namespace has nothing else to
// be changed on it: the kernel gives it its addresses when it comes up.
func AddLoopback(p *launch.Plan) {
	b := slices.Clone(loopbackUp[:]) // data is the plan's own
	sock := p.Slot("socket")
	p.Add(
		launch.Step{
			Name: "open socket for interface lo", Why: "any socket reaches the interfaces of the namespace it is made in",
			Call: launch.Socket, Into: sock,
			Args: launch.Args{launch.Int(unix.AF_INET), launch.Int(unix.SOCK_DGRAM | unix.SOCK_CLOEXEC), launch.Int(0)},
		},
		launch.Step{
			Name: "bring interface lo up", Why: "a new network namespace has it down, and programs expect 127.0.0.1",
			Call: launch.Ioctl,
			Args: launch.Args{sock, launch.Int(unix.SIOCSIFFLAGS), launch.Bytes(b, func() string { return "{name=\"lo\", flags=IFF_UP}" })},
		},
	)
}
