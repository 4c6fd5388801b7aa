package systemd

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"box/internal/errdefs"
)

// soon is the deadline of tests in which nobody answers.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("enough"))
	t.Cleanup(cancel)
	return ctx
}

// sayOnly is the address of a bus that says one thing to whoever connects, and then
// keeps silent.
func sayOnly(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bus")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			_, _ = io.WriteString(c, text)
		}
	}()
	return path
}

func TestGreetings(t *testing.T) {
	for text, want := range map[string]string{
		"REJECTED EXTERNAL\r\n":                 "authentication refused: REJECTED EXTERNAL",
		strings.Repeat("x", 2*maxLine):          "without a line's end",
		"OK 0123\r\n" + "B" + "garbagegarbage!": "not a little-endian message",
	} {
		b, err := dial(sayOnly(t, text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, want %q", text, err, want)
		}
		if err == nil {
			b.close()
		}
	}
}

// TestSilence: who waits for a bus that does not answer waits until the deadline, in
// every stage.
func TestSilence(t *testing.T) {
	silent := manager(t, func(text string, serial uint32) [][]byte {
		if strings.Contains(text, "Hello") {
			return [][]byte{done(serial)}
		}
		return nil
	})
	jobless := manager(t, func(text string, serial uint32) [][]byte {
		if !strings.Contains(text, "StopUnit") {
			return [][]byte{done(serial)}
		}
		return [][]byte{reply(methodReturn, serial, "", "", "o", func(e *encoder) { e.string("/job/7") })}
	})
	for name, err := range map[string]error{
		"call": silent.ResetFailed(soon(t), "x.scope"),
		"job":  jobless.Stop(soon(t), "x.scope"),
	} {
		if !errors.Is(err, errdefs.ErrUnavailable) || !strings.Contains(err.Error(), "no answer from D-Bus: enough") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestChatter: a bus that never stops talking about other things does not hold us
// beyond the deadline either, nor are its words kept.
func TestChatter(t *testing.T) {
	other := removed("/job/other", "done")
	m := manager(t, func(text string, serial uint32) [][]byte {
		switch {
		case strings.Contains(text, "Hello"):
			return [][]byte{done(serial)}
		case strings.Contains(text, "AddMatch"):
			many := make([][]byte, maxPending+1)
			for i := range many {
				many[i] = other
			}
			return many
		}
		return nil
	})
	err := m.Start(t.Context(), "x.scope", nil)
	if !errors.Is(err, errdefs.ErrCorrupt) || !strings.Contains(err.Error(), "no answer to AddMatch") {
		t.Errorf("have %v", err)
	}
	ctx := soon(t)
	<-ctx.Done()
	if _, err := m.bus.next(ctx); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("after the deadline, with more to read: %v", err)
	}
}

// TestForgedSignals: an end of the job that somebody else tells us, or that is of
// other types than it should be, is not believed.
func TestForgedSignals(t *testing.T) {
	body := func(e *encoder) {
		e.uint32(1)
		e.string("/job/7")
		e.string("x.scope")
		e.string("done")
	}
	genuine := sent{kind: signal, path: object, iface: managerInterface, member: "JobRemoved", sender: ":1.0", signature: "uoss", body: body}
	for name, change := range map[string]func(*sent){
		"to us alone from another":   func(m *sent) { m.destination, m.sender = ":1.99", ":1.66" },
		"of another object":          func(m *sent) { m.path = "/x" },
		"of another interface":       func(m *sent) { m.iface = "org.x" },
		"of other types":             func(m *sent) { m.signature = "uos" },
		"a call instead of a signal": func(m *sent) { m.kind = methodCall },
	} {
		forged := genuine
		change(&forged)
		m := manager(t, func(text string, serial uint32) [][]byte {
			if !strings.Contains(text, "StartTransientUnit") {
				return [][]byte{done(serial)}
			}
			return [][]byte{
				forged.bytes(),
				reply(methodReturn, serial, "", "", "o", func(e *encoder) { e.string("/job/7") }),
				forged.bytes(),
				removed("/job/7", "failed"),
			}
		})
		if err := m.Start(t.Context(), "x.scope", nil); err == nil || !strings.Contains(err.Error(), `ended as "failed"`) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAnswersOfOtherTypes: what is not of the types that systemd documents is no answer.
func TestAnswersOfOtherTypes(t *testing.T) {
	text := func(e *encoder) { e.string("/job/7") }
	for name, answer := range map[string]sent{
		"no path":      {signature: "s", body: text},
		"nothing":      {},
		"cut short":    {signature: "v", body: func(e *encoder) { e.signature("s"); e.uint32(1 << 30) }},
		"not a string": {signature: "v", body: func(e *encoder) { e.variant(uint32(7)) }},
	} {
		m := manager(t, func(text string, serial uint32) [][]byte {
			if strings.Contains(text, "StopUnit") || strings.Contains(text, "Get") {
				out := answer
				out.kind, out.serial = methodReturn, serial
				return [][]byte{out.bytes()}
			}
			return [][]byte{done(serial)}
		})
		var err error
		if answer.signature == "v" {
			_, err = m.Version(t.Context())
		} else {
			err = m.Stop(t.Context(), "x.scope")
		}
		if !errors.Is(err, errdefs.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestForgedReplies: only a return is one, whatever serial number other messages name.
func TestForgedReplies(t *testing.T) {
	m := manager(t, func(text string, serial uint32) [][]byte {
		forged := sent{kind: methodCall, serial: serial, path: "/x", member: "X", signature: "v", body: func(e *encoder) { e.variant("1") }}
		return [][]byte{forged.bytes(), reply(methodReturn, serial, "", "", "v", func(e *encoder) { e.variant("252") })}
	})
	if v, err := m.Version(t.Context()); v != 252 || err != nil {
		t.Errorf("%d, %v", v, err)
	}
}

// TestClosedConnection: when the bus goes away, the error says so, and is one for which
// trying again makes sense.
func TestClosedConnection(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, _ = io.WriteString(c, "OK 0\r\n")
			_, _ = c.Write(done(1))
			c.Close()
		}
	}()
	b, err := dial(path) // whose last write may find it closed already
	if err == nil {
		defer b.close()
		err = (&Manager{b}).ResetFailed(t.Context(), "x.scope")
	}
	if !errors.Is(err, errClosed) || !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("have %v", err)
	}
}
