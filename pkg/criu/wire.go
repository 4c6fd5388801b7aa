package criu

import (
	"encoding/binary"

	"box/internal/errdefs"
)

// message is a protocol buffer in the making. Fields may come in any order, and those
// at their default are left out.
type message []byte

// The wire types that occur (protobuf.dev, "Encoding").
const (
	wireVarint = 0
	wire64     = 1
	wireBytes  = 2
	wire32     = 5
)

func (m *message) key(field, wire int) {
	*m = binary.AppendUvarint(*m, uint64(field)<<3|uint64(wire))
}

// number adds an integer or enum, also if it is 0; negative ones have ten bytes.
func (m *message) number(field, n int) {
	m.key(field, wireVarint)
	*m = binary.AppendUvarint(*m, uint64(int64(n)))
}

// flag adds a boolean that is true.
func (m *message) flag(field int, v bool) {
	if v {
		m.number(field, 1)
	}
}

// text adds a string that is not empty.
func (m *message) text(field int, s string) {
	if s != "" {
		m.sub(field, message(s))
	}
}

// sub adds a message inside this one.
func (m *message) sub(field int, inner message) {
	m.key(field, wireBytes)
	*m = append(binary.AppendUvarint(*m, uint64(len(inner))), inner...)
}

// fields reads a message: for each field the number, and its value as an integer or as
// bytes. A message that does not parse is ErrCorrupt.
func fields(data []byte, each func(field int, n uint64, inner []byte)) error {
	for len(data) > 0 {
		key, used := binary.Uvarint(data)
		if used <= 0 {
			return errdefs.New(errdefs.ErrCorrupt, "read criu's answer: no field")
		}
		data = data[used:]
		n, inner, size := value(data, int(key&7))
		if size <= 0 || size > len(data) {
			return errdefs.New(errdefs.ErrCorrupt, "read criu's answer: field %d is cut short or of no known type", key>>3)
		}
		data = data[size:]
		each(int(key>>3), n, inner)
	}
	return nil
}

// value reads one value and returns its whole size; not positive if it is not all there.
func value(data []byte, wire int) (n uint64, inner []byte, size int) {
	switch wire {
	case wireVarint:
		n, size = binary.Uvarint(data)
	case wire64:
		size = 8
	case wire32:
		size = 4
	case wireBytes:
		length, used := binary.Uvarint(data)
		if used <= 0 || length > uint64(len(data)-used) {
			return 0, nil, 0
		}
		return 0, data[used : used+int(length)], used + int(length)
	}
	return n, nil, size
}
