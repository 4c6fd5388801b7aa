package criu

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"

	"box/internal/admit"
	"box/internal/errdefs"
)

// Command is how criu is started.
type Command struct {
	Path  string      // of the program; empty is criu in PATH
	Stdio [3]*os.File // of restored processes
	Files []*os.File  // its descriptors from FirstFile on
	// Start starts the command; nil is as it stands.
	Start func(*exec.Cmd) error
}

// FirstFile is the number of the first of Command.Files; the one before is our socket.
const FirstFile = 4

// Notice is what criu tells on its way, and waits with until it is answered.
type Notice struct {
	Script string // the event, as criu(8) has it under --action-script
	Pid    int    // of the first process, if it is about that
	File   *os.File
}

// features are what a FeatureCheck asks for.
type features struct{ memTrack, lazyPages bool }

// Run starts criu with one request and answers its notices by notify, whose error ends
// the work. It returns when criu has ended.
func Run(c Command, kind Kind, o *Options, notify func(*Notice) error) error {
	return c.session(kind, func() (m message) { // after the start, which may add to the options
		m.number(1, int(kind))
		m.sub(2, o.encode())
		return m
	}, notify, nil)
}

// Check asks whether kernel and criu can track changes of memory (for pre-dumps), and
// serve it lazily.
func Check(c Command) (memTrack, lazyPages bool, err error) {
	var m, wanted message
	wanted.flag(1, true)
	wanted.flag(2, true)
	m.number(1, int(FeatureCheck))
	m.sub(5, wanted)
	var f features
	err = c.session(FeatureCheck, func() message { return m }, nil, &f)
	return f.memTrack, f.lazyPages, err
}

// session is one start of criu, one request and what follows from it.
func (c *Command) session(kind Kind, request func() message, notify func(*Notice) error, f *features) error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	defer unix.Close(fds[0])
	cmd, err := c.start(os.NewFile(uintptr(fds[1]), "criu's end"))
	if err != nil {
		return fmt.Errorf("start criu: %w", err)
	}
	err = converse(fds[0], kind, request(), notify, f)
	_ = unix.Shutdown(fds[0], unix.SHUT_WR) // it ends now, or has been cut short
	state, werr := cmd.Process.Wait()
	if err == nil && werr == nil && !state.Success() && kind != PreDump { // which waits for more and is told none comes
		err = errdefs.New(errdefs.ErrUnavailable, "criu: %s", state)
	}
	return errors.Join(err, werr)
}

// start starts criu; its end of the socket is closed here, so that its death is seen.
func (c *Command) start(theirs *os.File) (*exec.Cmd, error) {
	defer theirs.Close()
	path := c.Path
	if path == "" {
		path = "criu"
	}
	cmd := exec.Command(path, "swrk", "3")
	if c.Stdio[0] != nil {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdio[0], c.Stdio[1], c.Stdio[2]
	}
	cmd.ExtraFiles = append([]*os.File{theirs}, c.Files...)
	defer admit.Starting()()
	if c.Start != nil {
		return cmd, c.Start(cmd)
	}
	return cmd, cmd.Start()
}

// converse sends the request and handles what comes until the response to it.
func converse(fd int, kind Kind, request message, notify func(*Notice) error, f *features) error {
	if err := send(fd, request); err != nil {
		return err
	}
	for {
		r, err := receive(fd)
		switch {
		case err != nil:
			return err
		case !r.success:
			return errdefs.New(errdefs.ErrUnavailable, "criu failed: errno %d%s", r.errno, r.text)
		case r.kind == kind:
			if f != nil {
				*f = r.features
			}
			return nil
		case r.kind != notice:
			return errdefs.New(errdefs.ErrCorrupt, "criu answers request %d with %d", kind, r.kind)
		}
		if err := answer(fd, r.notice, notify); err != nil {
			return err
		}
	}
}

// answer hands a notice on and tells criu that it may go on.
func answer(fd int, n *Notice, notify func(*Notice) error) error {
	err := notify(n)
	if n.File != nil {
		n.File.Close()
	}
	if err != nil {
		return err
	}
	var m message
	m.number(1, int(notice))
	m.flag(3, true)
	return send(fd, m)
}

func send(fd int, m message) error {
	if err := unix.Sendmsg(fd, m, nil, nil, unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("ask criu: %w", err)
	}
	return nil
}

// response is one message from criu.
type response struct {
	kind     Kind
	success  bool
	errno    int
	text     string
	notice   *Notice
	features features
}

// maxResponse is more than any message has that criu sends.
const maxResponse = 64 << 10

// receive waits for one message, with the descriptor that may have come with it.
func receive(fd int) (*response, error) {
	data, rights := make([]byte, maxResponse), make([]byte, unix.CmsgSpace(4))
	var n, on, flags int
	var err error
	for {
		n, on, flags, _, err = unix.Recvmsg(fd, data, rights, unix.MSG_CMSG_CLOEXEC)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("hear from criu: %w", err)
	}
	file, err := passed(rights[:on])
	switch {
	case err != nil:
	case n == 0:
		err = errdefs.New(errdefs.ErrUnavailable, "criu ended without an answer")
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		err = errdefs.New(errdefs.ErrCorrupt, "read criu's answer: it is longer than %d bytes, or has too many descriptors", maxResponse)
	}
	var r *response
	if err == nil {
		r, err = parse(data[:n])
	}
	if err == nil && r.notice != nil && r.success {
		r.notice.File = file
	} else if file != nil {
		file.Close()
	}
	return r, err
}

// passed is the descriptor in ancillary data, nil if there is none. criu sends one at a
// time; others would be closed.
func passed(rights []byte) (*os.File, error) {
	if len(rights) == 0 {
		return nil, nil
	}
	all, err := unix.ParseSocketControlMessage(rights)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	fds, err := unix.ParseUnixRights(&all[0])
	if err != nil || len(fds) == 0 {
		return nil, err
	}
	for _, fd := range fds[1:] {
		unix.Close(fd)
	}
	return os.NewFile(uintptr(fds[0]), "from criu"), nil
}

// parse reads a response (criu_resp).
func parse(data []byte) (*response, error) {
	r := &response{}
	var inner error
	err := fields(data, func(field int, n uint64, sub []byte) {
		switch field {
		case 1:
			r.kind = Kind(n)
		case 2:
			r.success = n != 0
		case 5:
			r.notice = &Notice{}
			inner = errors.Join(inner, fields(sub, func(field int, n uint64, text []byte) {
				if field == 1 {
					r.notice.Script = string(text)
				} else if field == 2 {
					r.notice.Pid = int(n)
				}
			}))
		case 7:
			r.errno = int(n)
		case 8:
			inner = errors.Join(inner, fields(sub, func(field int, n uint64, _ []byte) {
				r.features.memTrack = r.features.memTrack || field == 1 && n != 0
				r.features.lazyPages = r.features.lazyPages || field == 2 && n != 0
			}))
		case 9:
			r.text = ": " + string(sub)
		}
	})
	if err == nil && r.kind == notice && r.notice == nil {
		err = errdefs.New(errdefs.ErrCorrupt, "criu's notice says nothing")
	}
	return r, errors.Join(err, inner)
}
