package systemd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"box/internal/errdefs"
)

// The wire format is that of the D-Bus specification, "Message Format": little
// endian, every value aligned to its size from the start of the message.

// Types of messages and codes of header fields that are used here.
const (
	methodCall   = 1
	methodReturn = 2
	errorReply   = 3
	signal       = 4

	fieldPath        = 1
	fieldInterface   = 2
	fieldMember      = 3
	fieldErrorName   = 4
	fieldReplySerial = 5
	fieldDestination = 6
	fieldSender      = 7
	fieldSignature   = 8
)

// Property is a unit's property. Value is a bool, uint32, int32, uint64, string, []string,
// []uint32, []byte or []Device; systemd expects exactly its own type.
type Property struct {
	Name  string
	Value any
}

// encoder writes values at the end of a message.
type encoder struct{ buf []byte }

func (e *encoder) align(n int) {
	for len(e.buf)%n != 0 {
		e.buf = append(e.buf, 0)
	}
}

func (e *encoder) byte(b byte) { e.buf = append(e.buf, b) }

func (e *encoder) uint32(n uint32) {
	e.align(4)
	e.buf = binary.LittleEndian.AppendUint32(e.buf, n)
}

func (e *encoder) uint64(n uint64) {
	e.align(8)
	e.buf = binary.LittleEndian.AppendUint64(e.buf, n)
}

func (e *encoder) bool(b bool) {
	n := uint32(0)
	if b {
		n = 1
	}
	e.uint32(n)
}

// string writes a string or an object path.
func (e *encoder) string(s string) {
	e.uint32(uint32(len(s)))
	e.buf = append(append(e.buf, s...), 0)
}

func (e *encoder) signature(s string) {
	e.byte(byte(len(s)))
	e.buf = append(append(e.buf, s...), 0)
}

// array writes an array whose elements are aligned to n: its length in bytes does
// not count the padding before the first.
func (e *encoder) array(n int, elements func()) {
	e.uint32(0)
	length := len(e.buf) - 4
	e.align(n)
	start := len(e.buf)
	elements()
	binary.LittleEndian.PutUint32(e.buf[length:], uint32(len(e.buf)-start))
}

// variant writes a value with its type.
func (e *encoder) variant(v any) {
	switch v := v.(type) {
	case bool:
		e.signature("b")
		e.bool(v)
	case uint32:
		e.signature("u")
		e.uint32(v)
	case int32:
		e.signature("i")
		e.uint32(uint32(v))
	case uint64:
		e.signature("t")
		e.uint64(v)
	case string:
		e.signature("s")
		e.string(v)
	case []string:
		e.signature("as")
		e.array(4, func() {
			for _, s := range v {
				e.string(s)
			}
		})
	case []uint32:
		e.signature("au")
		e.array(4, func() {
			for _, n := range v {
				e.uint32(n)
			}
		})
	case []byte:
		e.signature("ay")
		e.array(1, func() { e.buf = append(e.buf, v...) })
	case []Device:
		e.signature("a(ss)")
		e.array(8, func() {
			for _, d := range v {
				e.align(8)
				e.string(d.Path)
				e.string(d.Access)
			}
		})
	default:
		panic(fmt.Sprintf("no D-Bus type for %T", v)) // a mistake in this package
	}
}

// properties writes an array of names with values, a(sv).
func (e *encoder) properties(list []Property) {
	e.array(8, func() {
		for _, p := range list {
			e.align(8)
			e.string(p.Name)
			e.variant(p.Value)
		}
	})
}

// field is a header field that is a text. kind is its type.
type field struct {
	code        byte
	kind, value string
}

// fields writes those header fields that there are.
func (e *encoder) fields(list ...field) {
	for _, f := range list {
		if f.value == "" {
			continue
		}
		e.align(8)
		e.byte(f.code)
		e.signature(f.kind)
		if f.kind == "g" {
			e.signature(f.value)
		} else {
			e.string(f.value)
		}
	}
}

// call is a method call. body writes the arguments, whose types are signature; the
// types of the answer are answer, "" if nobody reads it.
type call struct {
	destination, path, iface, member string
	signature                        string
	body                             func(*encoder)
	answer                           string
}

// encode returns the message with a serial number, which its reply will name.
func (c *call) encode(serial uint32) []byte {
	body := &encoder{}
	if c.body != nil {
		c.body(body)
	}
	e := &encoder{}
	e.buf = append(e.buf, 'l', methodCall, 0, 1)
	e.uint32(uint32(len(body.buf)))
	e.uint32(serial)
	e.array(8, func() {
		e.fields(
			field{fieldPath, "o", c.path}, field{fieldInterface, "s", c.iface}, field{fieldMember, "s", c.member},
			field{fieldDestination, "s", c.destination}, field{fieldSignature, "g", c.signature},
		)
	})
	e.align(8) // the body starts aligned, so its own alignment is right as it is
	return append(e.buf, body.buf...)
}

// message is one that has come in, with the header fields that are there.
type message struct {
	kind                byte
	replySerial         uint32
	path, iface, member string
	errorName           string
	destination, sender string // unique names; a broadcast has no destination
	signature           string // of the body
	body                decoder
}

// endsJob tells whether a signal is the manager's about the end of a job.
func (m *message) endsJob() bool {
	return m.member == "JobRemoved" && m.iface == managerInterface && m.path == object && m.signature == "uoss"
}

// from tells whether a signal comes from where a reply came from. Broadcasts have
// passed the match rule, which names the sender, and which the bus watches over (the
// unique name of a systemd that has been re-executed is another one than before). But
// anybody may send a signal to us alone, and the bus lets it through.
func (m *message) from(sender string) bool { return m.destination == "" || m.sender == sender }

// failure is the error that an error reply to a call stands for.
func (m *message) failure(member string) error {
	text := ""
	if strings.HasPrefix(m.signature, "s") {
		text = m.body.string()
	}
	return &Error{member, m.errorName, text}
}

// decoder reads values; after the first that is not there it returns zeros.
type decoder struct {
	buf []byte
	at  int
	bad bool
}

// take returns the next n bytes, aligned.
func (d *decoder) take(align, n int) []byte {
	at := (d.at + align - 1) &^ (align - 1)
	if d.bad || n < 0 || at > len(d.buf) || n > len(d.buf)-at {
		d.bad = true
		return nil
	}
	d.at = at + n
	return d.buf[at:d.at]
}

func (d *decoder) byte() byte {
	if b := d.take(1, 1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) uint32() uint32 {
	if b := d.take(4, 4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// text reads n bytes and the zero behind them.
func (d *decoder) text(n int) string {
	b := d.take(1, n)
	d.take(1, 1)
	return string(b)
}

func (d *decoder) string() string    { return d.text(int(d.uint32())) }
func (d *decoder) signature() string { return d.text(int(d.byte())) }

// maxMessage bounds what is read for one message; systemd's are below a kilobyte.
const maxMessage = 1 << 20

// fixedHeader is how much of a message tells how long it is.
const fixedHeader = 16

// lengths returns how many bytes of fields and of body follow the fixed header.
func lengths(header []byte) (fields, body int, err error) {
	if header[0] != 'l' || header[3] != 1 {
		return 0, 0, errdefs.New(errdefs.ErrCorrupt, "read from D-Bus: not a little-endian message of version 1")
	}
	fields = int(binary.LittleEndian.Uint32(header[12:]))
	body = int(binary.LittleEndian.Uint32(header[4:]))
	if fields > maxMessage || body > maxMessage {
		return 0, 0, errdefs.New(errdefs.ErrCorrupt, "read from D-Bus: message of %d bytes", fields+body)
	}
	return (fields + 7) &^ 7, body, nil
}

var errMalformed = errors.New("read from D-Bus: malformed message")

// decode takes a whole message apart.
func decode(buf []byte) (*message, error) {
	m := &message{kind: buf[1]}
	fields, _, err := lengths(buf)
	if err != nil || fixedHeader+fields > len(buf) {
		return nil, errors.Join(err, errMalformed)
	}
	end := fixedHeader + int(binary.LittleEndian.Uint32(buf[12:]))
	for d := (decoder{buf: buf[:end], at: fixedHeader}); d.at < end; {
		d.take(8, 0)
		code := d.byte()
		switch kind := d.signature(); kind {
		case "s", "o":
			m.set(code, d.string())
		case "g":
			m.set(code, d.signature())
		case "u":
			if n := d.uint32(); code == fieldReplySerial {
				m.replySerial = n
			}
		default:
			d.bad = true
		}
		if d.bad {
			return nil, errMalformed
		}
	}
	m.body = decoder{buf: buf[fixedHeader+fields:]}
	return m, nil
}

func (m *message) set(code byte, value string) {
	switch code {
	case fieldPath:
		m.path = value
	case fieldInterface:
		m.iface = value
	case fieldMember:
		m.member = value
	case fieldErrorName:
		m.errorName = value
	case fieldDestination:
		m.destination = value
	case fieldSender:
		m.sender = value
	case fieldSignature:
		m.signature = value
	}
}
