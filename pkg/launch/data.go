package launch

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Data is a piece of the program's memory: a structure, a list of strings, a buffer.
// It is placed once, eight-byte aligned, however often steps refer to it, and is
// writable at run time (Store, or a system call that fills it).
type Data struct {
	show    func() string
	bytes   []byte
	pointer []pointer
}

// pointer is an address to be written into a Data when places are known.
type pointer struct {
	off    int
	target Arg
}

// at is an address inside a Data.
type at struct {
	data *Data
	off  int
}

// Bytes makes data with the given content. Show, if not nil, is how the data is
// printed; it is called only when it is.
func Bytes(b []byte, show func() string) *Data {
	return &Data{bytes: b, show: show}
}

// Buffer makes size zero bytes for a system call to fill. The name is for printing.
func Buffer(name string, size int) *Data {
	return &Data{bytes: make([]byte, size), show: func() string { return "&" + name }}
}

// At is the address off bytes into the data.
func (d *Data) At(off int) Arg { return at{d, off} }

// Point has the address of target (a Text, a *Data or an At) written at off: for
// structures that hold pointers.
func (d *Data) Point(off int, target Arg) {
	d.pointer = append(d.pointer, pointer{off, target})
}

// String shows the data as strace would.
func (d *Data) String() string {
	if d.show != nil {
		return d.show()
	}
	return fmt.Sprintf("[%d bytes]", len(d.bytes))
}

// Strings makes a null-terminated array of strings, as execve takes for arguments
// and environment.
func Strings(list []string) *Data {
	d := &Data{bytes: make([]byte, 8*(len(list)+1))}
	for i, s := range list {
		d.Point(8*i, Text(s))
	}
	d.show = func() string {
		quoted := make([]string, len(list))
		for i, s := range list {
			quoted[i] = fmt.Sprintf("%q", s)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	}
	return d
}

// OpenHow makes the open_how structure of openat2(2); the call's size argument is
// OpenHowSize.
func OpenHow(flags, mode, resolve uint64) *Data {
	b := make([]byte, OpenHowSize)
	putWords(b, flags, mode, resolve)
	return Bytes(b, func() string {
		s := "{flags=" + openFlags.text(flags)
		if mode != 0 {
			s += fmt.Sprintf(", mode=%#o", mode)
		}
		return s + ", resolve=" + resolveFlags.text(resolve) + "}"
	})
}

// MountAttr makes the mount_attr structure of mount_setattr(2); the call's size
// argument is MountAttrSize. To give a user namespace, Store its descriptor at
// offset MountAttrUserns.
func MountAttr(a unix.MountAttr) *Data {
	b := make([]byte, MountAttrSize)
	putWords(b, a.Attr_set, a.Attr_clr, a.Propagation, a.Userns_fd)
	return Bytes(b, func() string {
		var parts []string
		for _, f := range []struct {
			name  string
			table flagTable
			value uint64
		}{{"set", attrFlags, a.Attr_set}, {"clear", attrFlags, a.Attr_clr}, {"propagation", mountFlags, a.Propagation}} {
			if f.value != 0 {
				parts = append(parts, f.name+"="+f.table.text(f.value))
			}
		}
		return "{" + strings.Join(parts, ", ") + "}"
	})
}

// Sizes and offsets of the kernel's structures that steps name.
const (
	OpenHowSize     = 24
	MountAttrSize   = 32
	MountAttrUserns = 24
)

// putWords writes 64-bit words one after the other. Both architectures are
// little-endian.
func putWords(b []byte, words ...uint64) {
	for i, w := range words {
		binary.LittleEndian.PutUint64(b[8*i:], w)
	}
}
