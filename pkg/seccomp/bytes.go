package seccomp

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
)

// instructionSize is that of struct sock_filter.
const instructionSize = 8

// Bytes returns a filter as the kernel reads it: an array of struct sock_filter, in the
// byte order of this machine.
func Bytes(filter []unix.SockFilter) []byte {
	code := make([]byte, 0, instructionSize*len(filter))
	for _, f := range filter {
		code = binary.NativeEndian.AppendUint16(code, f.Code)
		code = append(code, f.Jt, f.Jf)
		code = binary.NativeEndian.AppendUint32(code, f.K)
	}
	return code
}

// FromBytes reads what Bytes has written. Its error is of class ErrCorrupt.
func FromBytes(data []byte) ([]unix.SockFilter, error) {
	if len(data)%instructionSize != 0 {
		return nil, errdefs.New(errdefs.ErrCorrupt, "%d bytes are no filter", len(data))
	}
	filter := make([]unix.SockFilter, 0, len(data)/instructionSize)
	for ; len(data) > 0; data = data[instructionSize:] {
		filter = append(filter, unix.SockFilter{
			Code: binary.NativeEndian.Uint16(data), Jt: data[2], Jf: data[3], K: binary.NativeEndian.Uint32(data[4:]),
		})
	}
	return filter, nil
}
