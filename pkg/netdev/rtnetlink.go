package netdev

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// conn is a socket of rtnetlink(7), bound for good to the network namespace in which it
// was made.
type conn struct {
	fd  int
	seq uint32
}

func dial() (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	return &conn{fd: fd}, nil
}

func (c *conn) close() { unix.Close(c.fd) }

// Sizes in linux/rtnetlink.h, and the alignment of messages and attributes.
const (
	infoSize    = 16 // struct ifinfomsg
	addrSize    = 8  // struct ifaddrmsg
	netlinkUnit = 4
	readSize    = 64 << 10 // more than the kernel ever puts into one piece
)

// errInterrupted says that devices or addresses have changed while they were listed: the
// list may lack some that were there all the time.
var errInterrupted = errors.New("the list has changed meanwhile")

// attempts is how often a list is asked for that changes all the time.
const attempts = 10

// call sends one request and returns the bodies of what the kernel answers. Every
// request asks for an acknowledgement, so that there is an end.
func (c *conn) call(kind, flags uint16, body []byte) (bodies [][]byte, err error) {
	for range attempts {
		if bodies, err = c.once(kind, flags, body); err != errInterrupted {
			break
		}
	}
	return bodies, err
}

func (c *conn) once(kind, flags uint16, body []byte) ([][]byte, error) {
	c.seq++
	request := make([]byte, 0, unix.SizeofNlMsghdr+len(body))
	request = binary.NativeEndian.AppendUint32(request, uint32(unix.SizeofNlMsghdr+len(body)))
	request = binary.NativeEndian.AppendUint16(request, kind)
	request = binary.NativeEndian.AppendUint16(request, flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	request = binary.NativeEndian.AppendUint32(request, c.seq)
	request = binary.NativeEndian.AppendUint32(request, 0) // from whom; the kernel knows
	request = append(request, body...)
	if err := unix.Sendto(c.fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, os.NewSyscallError("send to rtnetlink", err)
	}
	return c.answers()
}

// answers reads until the acknowledgement, or the error in its place.
func (c *conn) answers() ([][]byte, error) {
	var a answer
	buf := make([]byte, readSize)
	for !a.complete {
		n, _, err := unix.Recvfrom(c.fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, os.NewSyscallError("receive from rtnetlink", err)
		}
		messages, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return nil, fmt.Errorf("parse answer of rtnetlink: %w", err)
		}
		for i := range messages {
			if messages[i].Header.Seq == c.seq { // else of a request before
				a.add(&messages[i])
			}
		}
	}
	if a.err == nil && a.interrupted {
		a.err = errInterrupted
	}
	return a.bodies, a.err
}

// answer is what has come of an answer.
type answer struct {
	bodies      [][]byte
	complete    bool
	interrupted bool
	err         error // how it has ended
}

func (a *answer) add(m *syscall.NetlinkMessage) {
	a.interrupted = a.interrupted || m.Header.Flags&unix.NLM_F_DUMP_INTR != 0
	switch {
	case a.complete:
	case m.Header.Type == unix.NLMSG_ERROR, m.Header.Type == unix.NLMSG_DONE:
		a.complete, a.err = true, status(m.Data)
	default:
		a.bodies = append(a.bodies, bytes.Clone(m.Data)) // the buffer is used again
	}
}

// status is the error number that ends an answer; 0 is success.
func status(data []byte) error {
	if len(data) < 4 {
		return unix.EBADMSG
	}
	if e := int32(binary.NativeEndian.Uint32(data)); e < 0 {
		return unix.Errno(-e)
	}
	return nil
}

// attribute appends one attribute, padded to its unit.
func attribute(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	for len(b)%netlinkUnit != 0 {
		b = append(b, 0)
	}
	return b
}

func text(b []byte, kind uint16, value string) []byte {
	return attribute(b, kind, append([]byte(value), 0))
}

func number(b []byte, kind uint16, value uint32) []byte {
	return attribute(b, kind, binary.NativeEndian.AppendUint32(nil, value))
}

// attributes reads the attributes behind a structure of size head, by kind. What is
// damaged ends the list.
func attributes(body []byte, head int) map[uint16][]byte {
	found := map[uint16][]byte{}
	for b := body[min(head, len(body)):]; len(b) >= unix.SizeofRtAttr; {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtAttr || size > len(b) {
			break
		}
		found[binary.NativeEndian.Uint16(b[2:])&^unix.NLA_F_NESTED] = b[unix.SizeofRtAttr:size]
		b = b[min((size+netlinkUnit-1)/netlinkUnit*netlinkUnit, len(b)):]
	}
	return found
}

// info is struct ifinfomsg: the device, and what of its flags is to be changed.
func info(index int, flags, change uint32) []byte {
	b := make([]byte, infoSize)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], change)
	return b
}
