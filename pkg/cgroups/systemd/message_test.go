package systemd

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
)

// TestCallOnTheWire holds a message against bytes written down from the D-Bus
// specification by hand.
func TestCallOnTheWire(t *testing.T) {
	c := &call{"d", "/p", "i", "M", "sba(sv)", func(e *encoder) {
		e.string("u")
		e.bool(true)
		e.properties([]Property{{"A", uint64(7)}, {"B", []byte{1, 2}}})
	}, ""}
	want := strings.Join([]string{
		"6c010001", "3a000000", "09000000", "4d000000", // l, call, no flags, version 1; body, serial, fields
		"01016f0002000000", "2f70000000000000", // path
		"0201730001000000", "6900000000000000", // interface
		"0301730001000000", "4d00000000000000", // member
		"0601730001000000", "6400000000000000", // destination
		"0801670007736261", "2873762900" + "000000", // signature, padding
		"01000000" + "7500" + "0000", "01000000", // "u", true
		"2a000000",                                                                 // length of the array
		"01000000" + "4100", "0174" + "00" + "00000000000000" + "0700000000000000", // A
		"01000000" + "4200", "02617900" + "0000", "02000000" + "0102", // B
	}, "")
	if have := hex.EncodeToString(c.encode(9)); have != want {
		t.Errorf("have %s\nwant %s", have, want)
	}
}

func TestVariants(t *testing.T) {
	for want, v := range map[string]any{
		"01620000" + "01000000":                           true,
		"01750000" + "05000000":                           uint32(5),
		"01690000" + "ffffffff":                           int32(-1),
		"01730000" + "02000000" + "616200":                "ab",
		"02617300" + "06000000" + "01000000" + "6100":     []string{"a"},
		"02617500" + "08000000" + "01000000" + "02000000": []uint32{1, 2},
		"0561287373290000" + "00000000" + "00000000":      []Device{},
		"0561287373290000" + "1d000000" + "00000000" + // padded before the first structure and the second
			"02000000" + "2f6100" + "00" + "02000000" + "727700" + "00" + "01000000" + "7800" + "0000" + "00000000" + "00": []Device{{"/a", "rw"}, {"x", ""}},
		"0174000000000000" + "0700000000000000": uint64(7),
	} {
		e := &encoder{}
		if e.variant(v); hex.EncodeToString(e.buf) != want {
			t.Errorf("%v: %x, want %s", v, e.buf, want)
		}
	}
}

// reply is a message as a manager sends it.
func reply(kind byte, serial uint32, member, errorName, signature string, body func(*encoder)) []byte {
	m := sent{kind: kind, serial: serial, member: member, errorName: errorName, sender: ":1.0", signature: signature, body: body}
	if kind == signal {
		m.path, m.iface = object, managerInterface
	}
	return m.bytes()
}

// sent is a message as anybody could send it.
type sent struct {
	kind                                                           byte
	serial                                                         uint32
	path, iface, member, errorName, destination, sender, signature string
	body                                                           func(*encoder)
}

func (m sent) bytes() []byte {
	b := &encoder{}
	if m.body != nil {
		m.body(b)
	}
	e := &encoder{}
	e.buf = append(e.buf, 'l', m.kind, 1, 1)
	e.uint32(uint32(len(b.buf)))
	e.uint32(100 + m.serial)
	e.array(8, func() {
		if m.serial != 0 {
			e.byte(fieldReplySerial)
			e.signature("u")
			e.uint32(m.serial)
		}
		e.fields(
			field{fieldPath, "o", m.path}, field{fieldInterface, "s", m.iface}, field{fieldMember, "s", m.member},
			field{fieldErrorName, "s", m.errorName}, field{fieldDestination, "s", m.destination},
			field{fieldSender, "s", m.sender}, field{fieldSignature, "g", m.signature},
		)
	})
	e.align(8)
	return append(e.buf, b.buf...)
}

func TestDecode(t *testing.T) {
	m, err := decode(reply(errorReply, 7, "", "org.x.No", "s", func(e *encoder) { e.string("not so") }))
	if err != nil || m.kind != errorReply || m.replySerial != 7 || m.errorName != "org.x.No" || m.sender != ":1.0" || m.signature != "s" || m.body.string() != "not so" {
		t.Errorf("%+v, %v", m, err)
	}
	if m.body.string() != "" || !m.body.bad {
		t.Error("more was read than there is")
	}
}

func TestLengthsAreBounded(t *testing.T) {
	for name, header := range map[string][]byte{
		"big endian": append([]byte("B\x02\x00\x01"), make([]byte, 12)...),
		"version":    append([]byte("l\x02\x00\x02"), make([]byte, 12)...),
		"body":       append([]byte("l\x02\x00\x01\xff\xff\xff\x7f"), make([]byte, 8)...),
	} {
		if _, _, err := lengths(header); !errors.Is(err, errdefs.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzDecode: whatever comes over the bus is a message or an error.
func FuzzDecode(f *testing.F) {
	f.Add(reply(methodReturn, 1, "", "", "o", func(e *encoder) { e.string("/job/1") }))
	f.Add(reply(signal, 0, "JobRemoved", "", "uoss", func(e *encoder) { e.uint32(1); e.string("/job/1"); e.string("u"); e.string("done") }))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < fixedHeader {
			return
		}
		fields, body, err := lengths(data)
		if err != nil || fixedHeader+fields+body > len(data) {
			return
		}
		m, err := decode(data[:fixedHeader+fields+body])
		if err != nil {
			return
		}
		m.body.uint32()
		m.body.string()
		m.body.signature()
		if m.body.at > len(m.body.buf) {
			t.Error("read beyond the body")
		}
	})
}

// FuzzConversation: whatever the other side of the socket sends, a start ends, with an
// answer or an error, and nothing is kept beyond what is bounded.
func FuzzConversation(f *testing.F) {
	f.Add([]byte("OK 0123\r\n"), reply(methodReturn, 1, "", "", "", nil))
	f.Add([]byte("DATA\r\nOK 0123\r\n"), append(done(1), append(done(2), append(done(3), append(removed("/job/7", "done"),
		reply(methodReturn, 4, "", "", "o", func(e *encoder) { e.string("/job/7") })...)...)...)...))
	f.Add([]byte("REJECTED EXTERNAL\r\n"), []byte{})
	f.Fuzz(func(t *testing.T, greeting, messages []byte) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fds[1])
		b := &bus{fd: fds[0]}
		defer b.close()
		all := append(bytes.Clone(greeting), messages...)
		if n, err := unix.Write(fds[1], all); err != nil || n != len(all) || unix.Shutdown(fds[1], unix.SHUT_WR) != nil {
			t.Skip("more than fits into a socket")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if b.authenticate(ctx) != nil {
			return
		}
		_ = (&Manager{b}).Start(ctx, "x.scope", nil)
		if ctx.Err() != nil {
			t.Error("it went on for ten seconds")
		}
	})
}
