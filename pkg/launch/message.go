package launch

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Sizes and offsets of struct msghdr, struct iovec and struct cmsghdr (recvmsg(2),
// cmsg(3)) on 64-bit machines.
const (
	msghdrSize    = 56
	msghdrIov     = 16
	msghdrIovlen  = 24
	msghdrControl = 32
	msghdrCtllen  = 40
	iovecSize     = 16
	iovecLen      = 8
	cmsgLevel     = 8
	cmsgType      = 12
	cmsgData      = 16
	fdSize        = 4
)

// Message is what sendmsg(2) and recvmsg(2) take: a block of data and descriptors
// (SCM_RIGHTS, unix(7)).
type Message struct {
	// Header is the struct msghdr, the argument of the call.
	Header  *Data
	control *Data
}

// NewMessage makes a message of the size bytes at data, and one descriptor for each name,
// as which it is printed. What is to be sent is stored at FD before; what was received is
// loaded from there after.
func NewMessage(data Arg, size int, names ...string) Message {
	rights := make([]byte, unix.CmsgSpace(fdSize*len(names)))
	putWords(rights, uint64(unix.CmsgLen(fdSize*len(names))))
	binary.LittleEndian.PutUint32(rights[cmsgLevel:], unix.SOL_SOCKET)
	binary.LittleEndian.PutUint32(rights[cmsgType:], unix.SCM_RIGHTS)
	control := Bytes(rights, func() string { return "{SCM_RIGHTS, [" + strings.Join(names, ", ") + "]}" })

	vector := make([]byte, iovecSize)
	putWords(vector[iovecLen:], uint64(size))
	iovec := Bytes(vector, nil)
	iovec.Point(0, data)

	b := make([]byte, msghdrSize)
	putWords(b[msghdrIovlen:], 1)
	putWords(b[msghdrCtllen:], uint64(len(rights)))
	header := Bytes(b, func() string {
		what := fmt.Sprintf("%v[%d]", data, size)
		if text, ok := data.(Text); ok {
			what = fmt.Sprintf("%q", string(text))
		}
		if len(names) == 0 {
			return "{" + what + "}"
		}
		return "{" + what + ", " + control.String() + "}"
	})
	header.Point(msghdrIov, iovec)
	header.Point(msghdrControl, control)
	return Message{header, control}
}

// FD is the address of the descriptor with number i in the message, four bytes.
func (m Message) FD(i int) Arg { return m.control.At(cmsgData + fdSize*i) }
