package monitor

import (
	"context"
	_ "crypto/sha256" // chainIDs are checked by go-digest, which knows only linked hashes
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/internal/sys"
	"box/pkg/network"
	"box/pkg/record"
)

// Inherited descriptors; package engine has the other end of this table.
const (
	connFD = 3
	lockFD = 4
)

// Main is the program: box-monitor --root R --runroot RR ID. It returns the
// exit status, which nobody looks at.
func Main(args []string) int {
	// A short container does not live to see a collection; settleMemory turns
	// it on for the others.
	debug.SetGCPercent(-1)
	outliveSignals()
	m, conn, err := open(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "box-monitor:", err)
		return 2
	}
	m.supervise(context.Background(), conn)
	return 0
}

// outliveSignals keeps the monitor alive where its starter dies: a terminal
// that is hung up, or an interrupt to a process group. SIGTERM is what the host
// sends before it goes down; the container gets it from the same sender. The
// signals are caught, not ignored: being ignored is inherited by the container.
func outliveSignals() {
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM)
}

// monitor is the supervision of one container.
type monitor struct {
	id      string
	mode    string // of the network
	store   *record.Store
	lock    *record.Lock
	record  *record.Record
	streams streams
	server  *server

	// What there is to take down.
	netns    *os.File
	network  *network.Manager // one for the whole life; nil without the bridge
	ports    *network.Reservation
	attached bool // to the network
	begun    bool // the runtime was called
	failed   bool // the start did not succeed
}

// usage is the whole command line; the order is fixed.
var usage = [...]string{"--root", "--runroot", "--network"}

func wellFormed(args []string) bool {
	if len(args) != 2*len(usage)+1 || !record.IsID(args[2*len(usage)]) {
		return false
	}
	for i, flag := range usage {
		if args[2*i] != flag {
			return false
		}
	}
	return true
}

func open(args []string) (*monitor, *record.Conn, error) {
	if !wellFormed(args) {
		return nil, nil, errdefs.New(errdefs.ErrInvalid, "this program is started by box, not by hand: want --root DIR --runroot DIR --network MODE ID")
	}
	conn, err := record.NewConn(connFD)
	if err != nil {
		return nil, nil, err
	}
	store, err := record.OpenStore(args[1], args[3])
	if err != nil {
		return nil, nil, err
	}
	unix.CloseOnExec(connFD)
	unix.CloseOnExec(lockFD)
	lockFile := os.NewFile(lockFD, "container lock")
	id := args[6]
	m := &monitor{id: id, mode: args[5], store: store, lock: store.Inherited(id, lockFile)}
	// From here on, mounts of ours stay ours, while the host's still arrive.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return nil, nil, fmt.Errorf("make mounts private: %w", err)
	}
	// The container becomes our child when the runtime process ends.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, nil, fmt.Errorf("become subreaper: %w", err)
	}
	return m, conn, nil
}

// supervise is one whole life.
func (m *monitor) supervise(ctx context.Context, conn *record.Conn) {
	prepared := m.prepare()
	req, files, err := conn.ReadRequest()
	switch {
	case err != nil:
		_ = conn.Close()
		m.replaceEngine(ctx)
		return
	case req.Op == record.OpCancel:
		return
	}
	defer m.settleNetwork(ctx)
	if err := m.start(ctx, prepared, req, files); err != nil {
		closeFiles(files)
		m.fail(ctx, conn, err)
		return
	}
	pid := m.record.State.Pid
	m.server.adopt(conn, req, files)
	go m.server.run()
	memory := time.AfterFunc(memoryDelay, settleMemory)
	code := reap(pid)
	memory.Stop()
	m.finish(ctx, code)
}

// replaceEngine clears up behind an engine that was killed before it asked for
// the start: what was being made is removed, and the lock is let go.
func (m *monitor) replaceEngine(ctx context.Context) {
	err := m.dropNetwork(ctx)
	var missing error
	if m.record, missing = m.store.Load(m.id); errors.Is(missing, errdefs.ErrNotFound) {
		missing = m.store.Scrap(m.id, nil, m.removeLayer)
	}
	m.end(errors.Join(err, missing))
}

// memoryDelay and settleMemory: what setup needed is given back to the system
// once the container is known to be more than a quick command, and the heap is
// kept small from then on.
const memoryDelay = time.Second

func settleMemory() {
	debug.SetGCPercent(25)
	debug.FreeOSMemory()
}

// start brings the container up, if what was prepared before is there. req is
// what the engine wants attached.
func (m *monitor) start(ctx context.Context, prepared error, req record.Request, files []*os.File) error {
	if req.Op != record.OpStart {
		return errdefs.New(errdefs.ErrInvalid, "start container: unexpected request %q", req.Op)
	}
	var err error
	if m.record, err = m.store.Load(m.id); err != nil {
		return err
	}
	if prepared != nil {
		return prepared
	}
	if err := m.setup(ctx); err != nil {
		return err
	}
	if err := m.run(ctx, req, files); err != nil {
		return err
	}
	m.record.State.Status = record.Running
	m.record.State.StartedAt = time.Now().UTC()
	m.record.State.ExitCode = 0
	m.record.State.Error = ""
	return m.store.Save(m.record, record.Volatile)
}

// reap waits for the container, and meanwhile for whatever else the runtime
// has left to us. It returns the exit code in the shell's way.
func reap(pid int) int {
	for {
		var ws unix.WaitStatus
		got, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			awaitStranger(pid)
			return lostCode
		case got == pid && ws.Signaled():
			return 128 + int(ws.Signal())
		case got == pid && ws.Exited():
			return ws.ExitStatus()
		}
	}
}

// awaitStranger waits for a process that is not our child, for a runtime that
// leaves its containers to another parent.
func awaitStranger(pid int) {
	f, err := sys.PidfdOpen(pid)
	if err != nil {
		return // it is gone
	}
	defer f.Close()
	_, _ = sys.PollPidfd(f, -1) // an error is the end of waiting as well
}

// lostCode is told when the kernel does not know the container's end.
const lostCode = 255

// finish writes the end down, takes everything down, and tells everybody. Of a
// container that stays the root is unmounted after that: nobody can see it, and
// who wants the container again waits for the lock.
func (m *monitor) finish(ctx context.Context, code int) {
	exited := record.Event{Kind: record.EventExited, Code: code}
	m.record.MarkExited(code, time.Now().UTC())
	if m.record.Host.AutoRemove {
		m.end(m.teardown(ctx))
		m.server.tellAll(exited)
		return
	}
	// First of all, so that the code is kept if we are killed in teardown.
	_ = m.store.Save(m.record, record.Volatile)
	err := m.teardown(ctx)
	m.server.tellAll(exited)
	m.end(errors.Join(err, m.dropRoot(ctx)))
}

// fail is the end of a start that did not succeed. The container stays as it
// was before, with the reason in its record, as with Docker.
func (m *monitor) fail(ctx context.Context, conn *record.Conn, cause error) {
	event := failedEvent(cause)
	m.failed = true
	err := errors.Join(m.teardown(ctx), m.dropRoot(ctx))
	if m.record != nil {
		m.record.State.ExitCode, m.record.State.Error = event.Code, event.Message
		m.record.State.Pid = 0
		if m.record.State.Status == record.Running {
			m.record.State.Status = record.Exited
		}
		m.record.Network = record.Network{}
		if !m.record.Host.AutoRemove {
			err = errors.Join(err, m.store.Save(m.record, record.Volatile))
		}
	}
	m.end(err)
	if err != nil {
		event.Message += "; and clearing up: " + err.Error()
	}
	_ = conn.SendEvent(event) // the client may be gone
	_ = conn.Close()
}

// end removes an auto-removed container and lets the lock go. After an error
// the run directory stays: the next command's sweep sees it and tries again.
func (m *monitor) end(err error) {
	if err == nil && m.record != nil && m.record.Host.AutoRemove {
		err = m.store.Scrap(m.id, m.record, m.removeLayer)
	}
	if err != nil {
		_ = m.lock.Abandon()
		return
	}
	_ = m.lock.Unlock()
}
