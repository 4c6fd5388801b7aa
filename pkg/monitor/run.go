package monitor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"box/pkg/ocirt"
	"box/pkg/record"
	"box/pkg/terminal"
)

// run lets the runtime make the container and start its command.
func (m *monitor) run(ctx context.Context, req record.Request, files []*os.File) error {
	log, err := openLog(filepath.Join(m.store.Dir(m.id), record.LogFile))
	if err != nil {
		return err
	}
	m.streams.log = log
	outs, errs := outputs(req, files)
	m.streams.stdout.add(outs)
	m.streams.stderr.add(errs)

	held, err := m.lock.RuntimeFile()
	if err != nil {
		return err
	}
	defer held.Close()
	pidFile := filepath.Join(m.lock.Dir(), "pid")
	o := ocirt.CreateOptions{PidFile: pidFile, Inherit: []*os.File{held}}
	m.begun = true
	if m.record.Config.Tty {
		err = m.runOnTerminal(ctx, o, req)
	} else {
		err = m.runOnPipes(ctx, o)
	}
	if err != nil {
		return ocirt.Explain(err, "start container %s", m.record.Name)
	}
	m.record.State.Pid, err = readPid(pidFile)
	return err
}

// outputs tells the client's files apart.
func outputs(req record.Request, files []*os.File) (stdout, stderr *os.File) {
	if req.Stdout && len(files) > 0 {
		stdout, files = files[0], files[1:]
	}
	if req.Stderr && len(files) > 0 {
		stderr = files[0]
	}
	return stdout, stderr
}

func readPid(path string) (int, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, errors.Join(errNoPid, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || pid <= 0 {
		return 0, errNoPid
	}
	return pid, nil
}

// runOnPipes connects stdout and stderr to us. stdin is /dev/null, or a pipe
// whose writing end waits for clients.
func (m *monitor) runOnPipes(ctx context.Context, o ocirt.CreateOptions) error {
	var theirs []*os.File
	defer func() {
		for _, f := range theirs {
			_ = f.Close() // the container has its own by now
		}
	}()
	pipe := func() (r, w *os.File, err error) {
		if r, w, err = os.Pipe(); err != nil {
			return nil, nil, fmt.Errorf("make pipe: %w", err)
		}
		return r, w, nil
	}
	stdout, w, err := pipe()
	if err != nil {
		return err
	}
	o.Stdout, theirs = w, append(theirs, w)
	stderr, w, err := pipe()
	if err != nil {
		return err
	}
	o.Stderr, theirs = w, append(theirs, w)
	if m.record.Config.OpenStdin {
		r, w, err := pipe()
		if err != nil {
			return err
		}
		o.Stdin, theirs = r, append(theirs, r)
		m.streams.stdin = w
	}
	m.streams.copy("stdout", stdout, &m.streams.stdout)
	m.streams.copy("stderr", stderr, &m.streams.stderr)
	return m.runtime().RunDetached(ctx, m.id, m.store.Dir(m.id), o)
}

// runOnTerminal receives the pty's master from the runtime by the console
// socket, as runc defines it (runc, docs/terminals.md).
func (m *monitor) runOnTerminal(ctx context.Context, o ocirt.CreateOptions, req record.Request) error {
	socket, done, err := m.listenConsole()
	if err != nil {
		return err
	}
	defer done()
	o.ConsoleSocket = socket.path
	received := make(chan error, 1)
	go func() {
		master, err := socket.Accept()
		if err == nil {
			m.startTerminal(master, req)
		}
		received <- err
	}()
	err = m.runtime().RunDetached(ctx, m.id, m.store.Dir(m.id), o)
	_ = socket.Close() // ends Accept, should the runtime not have come
	if got := <-received; err == nil {
		err = got
	}
	return err
}

type consoleSocket struct {
	*terminal.Listener
	path string
}

// listenConsole makes the console socket in the run directory. Its path goes by
// a descriptor of ours, because the real one may not fit into a socket address.
func (m *monitor) listenConsole() (consoleSocket, func(), error) {
	dir, err := os.OpenFile(m.lock.Dir(), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return consoleSocket{}, nil, fmt.Errorf("make console socket: %w", err)
	}
	path := fmt.Sprintf("/proc/%d/fd/%d/console.sock", os.Getpid(), dir.Fd())
	l, err := terminal.Listen(path)
	if err != nil {
		_ = dir.Close()
		return consoleSocket{}, nil, err
	}
	return consoleSocket{l, path}, func() { _ = l.Close(); _ = dir.Close() }, nil
}

// startTerminal sets the window before the command can look at it, and copies.
func (m *monitor) startTerminal(master *os.File, req record.Request) {
	if req.Rows != 0 && req.Cols != 0 {
		_ = terminal.SetSize(master, req.Rows, req.Cols) // a wrong size is no reason to fail
	}
	m.streams.stdin = master
	m.streams.copy("stdout", master, &m.streams.stdout)
}
