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

// bus is a connection to a message bus, for one goroutine. Whoever is on the other
// side may be slow, mad or gone: every wait ends with its context's deadline, and
// nothing that is read grows beyond a limit.
type bus struct {
	fd      int
	in      []byte // read and not yet taken
	serial  uint32
	pending []*message // ends of jobs that came before the reply that was waited for
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

// answerLimit bounds the introduction to a bus.
const answerLimit = 30 * time.Second

// dial connects and introduces itself.
func dial(path string) (*bus, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	b := &bus{fd: fd}
	ctx, cancel := context.WithTimeout(context.Background(), answerLimit)
	defer cancel()
	if err := b.introduce(ctx, path); err != nil {
		b.close()
		return nil, fmt.Errorf("connect to D-Bus at %s: %w", path, err)
	}
	return b, nil
}

func (b *bus) introduce(ctx context.Context, path string) error {
	if err := unix.Connect(b.fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return errdefs.New(errdefs.ErrUnavailable, "%w", err) // EAGAIN: its queue is full
	}
	if err := b.authenticate(ctx); err != nil {
		return err
	}
	_, err := b.call(ctx, &call{
		destination: "org.freedesktop.DBus", path: "/org/freedesktop/DBus", iface: "org.freedesktop.DBus", member: "Hello",
	})
	return err
}

// authenticate lets the kernel say who we are ("Authentication Protocol",
// EXTERNAL). We do not name our user id, which may be another one on the other side
// of a user namespace.
func (b *bus) authenticate(ctx context.Context) error {
	if err := b.write(ctx, []byte("\x00AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")); err != nil {
		return err
	}
	for {
		line, err := b.line(ctx)
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

// maxLine bounds a line of the authentication, as dbus-daemon does for ours.
const maxLine = 16 << 10

// line reads one line of the authentication.
func (b *bus) line(ctx context.Context) (string, error) {
	for {
		if line, rest, ok := bytes.Cut(b.in, []byte("\r\n")); ok {
			b.in = rest
			return string(line), nil
		}
		if len(b.in) > maxLine {
			return "", errdefs.New(errdefs.ErrCorrupt, "read from D-Bus: %d bytes of authentication without a line's end", len(b.in))
		}
		if err := b.more(ctx); err != nil {
			return "", err
		}
	}
}

// errClosed says that the bus has gone. It is not dialled again: of a call whose answer
// is lost nobody knows whether it was carried out.
var errClosed = errdefs.New(errdefs.ErrUnavailable, "D-Bus has closed the connection")

// more reads what has come, or waits for it.
func (b *bus) more(ctx context.Context) error {
	buf := make([]byte, 4096)
	for {
		n, err := unix.Read(b.fd, buf)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			if err := b.await(ctx, unix.POLLIN); err != nil {
				return err
			}
			continue
		case n == 0, errors.Is(err, unix.ECONNRESET):
			return errClosed
		case err != nil:
			return os.NewSyscallError("read", err)
		}
		b.in = append(b.in, buf[:n]...)
		return nil
	}
}

// await waits until the socket is ready for events of poll(2), or the context's
// deadline; nobody here has a context that is cancelled without one.
func (b *bus) await(ctx context.Context, events int16) error {
	millis := -1
	if deadline, ok := ctx.Deadline(); ok {
		millis = int(max(0, time.Until(deadline).Milliseconds()+1))
	}
	for ctx.Err() == nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(b.fd), Events: events}}, millis)
		if err == nil && n > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("poll", err)
		}
	}
	return errdefs.New(errdefs.ErrUnavailable, "no answer from D-Bus: %w", context.Cause(ctx))
}

func (b *bus) write(ctx context.Context, data []byte) error {
	for len(data) > 0 {
		n, err := unix.SendmsgN(b.fd, data, nil, nil, unix.MSG_NOSIGNAL)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			if err := b.await(ctx, unix.POLLOUT); err != nil {
				return err
			}
			continue
		case errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET):
			return errClosed
		case err != nil:
			return os.NewSyscallError("write", err)
		}
		data = data[n:]
	}
	return nil
}

// next reads one message. It fails when the context has ended, also if there is
// something to read: a bus that never stops talking must not hold us.
func (b *bus) next(ctx context.Context) (*message, error) {
	for {
		if ctx.Err() != nil {
			return nil, errdefs.New(errdefs.ErrUnavailable, "no answer from D-Bus: %w", context.Cause(ctx))
		}
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
		if err := b.more(ctx); err != nil {
			return nil, err
		}
	}
}

// maxPending bounds the ends of jobs that are kept while a reply is waited for: far
// more than systemd has jobs.
const maxPending = 1 << 14

// call calls a method and waits for its reply, which has to be of the types that the
// call expects. Ends of jobs that come before are kept.
func (b *bus) call(ctx context.Context, c *call) (*message, error) {
	b.serial++
	if err := b.write(ctx, c.encode(b.serial)); err != nil {
		return nil, err
	}
	for {
		m, err := b.next(ctx)
		switch {
		case err != nil:
			return nil, err
		case m.kind == signal && m.endsJob():
			if b.pending = append(b.pending, m); len(b.pending) > maxPending {
				return nil, errdefs.New(errdefs.ErrCorrupt, "read from D-Bus: %d signals and no answer to %s", len(b.pending), c.member)
			}
		case m.kind == errorReply && m.replySerial == b.serial:
			return nil, m.failure(c.member)
		case m.kind != methodReturn || m.replySerial != b.serial:
		case c.answer != "" && m.signature != c.answer:
			return nil, errdefs.New(errdefs.ErrCorrupt, "systemd: %s: the answer is of type %q, want %q", c.member, m.signature, c.answer)
		default:
			return m, nil
		}
	}
}

// jobEnd returns the next signal about the end of a job.
func (b *bus) jobEnd(ctx context.Context) (*message, error) {
	if len(b.pending) > 0 {
		m := b.pending[0]
		b.pending = b.pending[1:]
		return m, nil
	}
	for {
		m, err := b.next(ctx)
		if err != nil || m.kind == signal && m.endsJob() {
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
