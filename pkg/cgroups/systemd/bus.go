package systemd

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
)

// bus is a connection to a message bus, for one goroutine.
type bus struct {
	fd      int
	in      []byte // read and not yet taken
	serial  uint32
	pending []*message // signals that came before the reply that was waited for
}

// socketPath returns where a manager's bus listens. The variables are those of the
// D-Bus specification ("Well-known Message Bus Instances").
func socketPath(user bool, getenv func(string) string) (string, error) {
	variable, fallback := "DBUS_SYSTEM_BUS_ADDRESS", "/run/dbus/system_bus_socket"
	if user {
		variable, fallback = "DBUS_SESSION_BUS_ADDRESS", ""
		if dir := getenv("XDG_RUNTIME_DIR"); dir != "" {
			fallback = dir + "/bus"
		}
	}
	for address := range strings.SplitSeq(getenv(variable), ";") {
		if path, ok := socketOf(address); ok {
			return path, nil
		}
	}
	if fallback == "" {
		return "", errdefs.WithHint(
			errdefs.New(errdefs.ErrUnavailable, "find the user's D-Bus: neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set"),
			"Log in with a session of systemd (machinectl shell, ssh), or choose the cgroupfs driver.")
	}
	return fallback, nil
}

// socketOf returns the socket of an address such as unix:path=/run/bus,guid=…; an
// abstract one starts with "@".
func socketOf(address string) (string, bool) {
	rest, ok := strings.CutPrefix(address, "unix:")
	if !ok {
		return "", false
	}
	for pair := range strings.SplitSeq(rest, ",") {
		switch key, value, _ := strings.Cut(pair, "="); key {
		case "path":
			return unescape(value), true
		case "abstract":
			return "@" + unescape(value), true
		}
	}
	return "", false
}

// unescape resolves %XX; what is malformed stays as it is.
func unescape(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if b, err := hex.DecodeString(s[i+1 : i+3]); err == nil {
				out.Write(b)
				i += 2
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

// answerLimit bounds the wait for the bus; a manager that is busy reloading may
// take seconds.
const answerLimit = 30 * time.Second

// dial connects and introduces itself.
func dial(path string) (*bus, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	b := &bus{fd: fd}
	if err := b.introduce(path); err != nil {
		b.close()
		return nil, fmt.Errorf("connect to D-Bus at %s: %w", path, err)
	}
	return b, nil
}

func (b *bus) introduce(path string) error {
	limit := unix.NsecToTimeval(answerLimit.Nanoseconds())
	if err := unix.SetsockoptTimeval(b.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Connect(b.fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return errdefs.New(errdefs.ErrUnavailable, "%w", err)
	}
	if err := b.authenticate(); err != nil {
		return err
	}
	_, err := b.call(context.Background(), &call{
		destination: "org.freedesktop.DBus", path: "/org/freedesktop/DBus", iface: "org.freedesktop.DBus", member: "Hello",
	})
	return err
}

// authenticate lets the kernel say who we are ("Authentication Protocol",
// EXTERNAL). We do not name our user id, which may be another one on the other side
// of a user namespace.
func (b *bus) authenticate() error {
	if err := b.write([]byte("\x00AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")); err != nil {
		return err
	}
	for {
		line, err := b.line()
		switch {
		case err != nil:
			return err
		case strings.HasPrefix(line, "OK "):
			return nil
		case !strings.HasPrefix(line, "DATA"):
			return errdefs.New(errdefs.ErrUnavailable, "authentication refused: %.100s", line)
		}
	}
}

// line reads one line of the authentication.
func (b *bus) line() (string, error) {
	for {
		if line, rest, ok := bytes.Cut(b.in, []byte("\r\n")); ok {
			b.in = rest
			return string(line), nil
		}
		if err := b.more(); err != nil {
			return "", err
		}
	}
}

// more reads what has come.
func (b *bus) more() error {
	buf := make([]byte, 4096)
	for {
		n, err := unix.Read(b.fd, buf)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return errdefs.New(errdefs.ErrUnavailable, "no answer from D-Bus for %v", answerLimit)
		case err != nil:
			return os.NewSyscallError("read", err)
		case n == 0:
			return errdefs.New(errdefs.ErrUnavailable, "D-Bus has closed the connection")
		}
		b.in = append(b.in, buf[:n]...)
		return nil
	}
}

func (b *bus) write(data []byte) error {
	for len(data) > 0 {
		n, err := unix.SendmsgN(b.fd, data, nil, nil, unix.MSG_NOSIGNAL)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return os.NewSyscallError("write", err)
		}
		data = data[n:]
	}
	return nil
}

// next reads one message.
func (b *bus) next() (*message, error) {
	for {
		if len(b.in) >= fixedHeader {
			fields, body, err := lengths(b.in)
			if err != nil {
				return nil, err
			}
			if size := fixedHeader + fields + body; len(b.in) >= size {
				m, err := decode(b.in[:size:size])
				b.in = b.in[size:]
				return m, err
			}
		}
		if err := b.more(); err != nil {
			return nil, err
		}
	}
}

// call calls a method and waits for its reply. Signals that come before are kept.
func (b *bus) call(ctx context.Context, c *call) (*decoder, error) {
	b.serial++
	if err := b.write(c.encode(b.serial)); err != nil {
		return nil, err
	}
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		m, err := b.next()
		switch {
		case err != nil:
			return nil, err
		case m.kind == signal:
			b.pending = append(b.pending, m)
		case m.replySerial != b.serial:
		case m.kind == errorReply:
			return nil, &Error{c.member, m.errorName, m.body.string()}
		default:
			return &m.body, nil
		}
	}
}

// signal returns the next signal.
func (b *bus) signal() (*message, error) {
	if len(b.pending) > 0 {
		m := b.pending[0]
		b.pending = b.pending[1:]
		return m, nil
	}
	for {
		m, err := b.next()
		if err != nil || m.kind == signal {
			return m, err
		}
	}
}

func (b *bus) close() { unix.Close(b.fd) }

// Error is what the other side says of a call that has failed.
type Error struct {
	Member string // the method
	Name   string // such as org.freedesktop.systemd1.NoSuchUnit
	Text   string
}

func (e *Error) Error() string {
	text := e.Text
	if text == "" {
		text = e.Name
	}
	return "systemd: " + e.Member + ": " + text
}

// is tells whether err is the answer with one of systemd's names.
func is(err error, names ...string) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return false
	}
	for _, n := range names {
		if e.Name == "org.freedesktop.systemd1."+n {
			return true
		}
	}
	return false
}

// number reads the decimal number at the start of a version such as
// "252.39-1~deb12u2" or "v255".
func number(version string) int {
	version = strings.TrimPrefix(version, "v")
	end := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' })
	if end >= 0 {
		version = version[:end]
	}
	n, _ := strconv.Atoi(version)
	return n
}
