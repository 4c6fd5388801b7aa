package guest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"box/internal/testkit/vm"
)

// serve runs the command, passes its input and output, reaps what it leaves, and
// says its status. It returns only if that is not possible.
func serve(job *vm.Job, port *os.File) error {
	go forget()
	frames := vm.NewFrameWriter(port)
	status, err := run(job, port, frames)
	if err != nil {
		return err
	}
	unix.Sync() // what was written to the host's directories
	if err := frames.Write(vm.Status, []byte(strconv.Itoa(status))); err != nil {
		return err
	}
	select {} // the host ends the machine
}

// streams are the command's ends of three pipes, and ours. The command gets pipes
// because a port can be opened only once.
type streams struct{ theirs, ours [3]*os.File }

// makeStreams makes the pipes. The user must be able to open them by name too
// (/dev/stdout), so they are his.
func makeStreams(owner int) (*streams, error) {
	s := &streams{}
	for i := range s.theirs {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		if s.theirs[i], s.ours[i] = w, r; i == 0 {
			s.theirs[i], s.ours[i] = r, w
		}
		if err := s.theirs[i].Chown(owner, owner); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// run starts the command and waits for it. The pid of the command is waited for
// among all others, since this process inherits every orphan.
func run(job *vm.Job, port *os.File, frames *vm.FrameWriter) (int, error) {
	attr := &syscall.SysProcAttr{Setsid: true}
	owner := 0
	if job.Mode.Unprivileged() {
		owner = userID
		attr.Credential = &syscall.Credential{Uid: userID, Gid: userID}
	}
	s, err := makeStreams(owner)
	if err != nil {
		return 0, err
	}
	process, status, err := start(job, s, attr)
	for _, f := range s.theirs {
		f.Close()
	}
	if process == nil {
		if err == nil {
			return status, nil
		}
		return status, frames.Write(vm.Stderr, []byte(err.Error()+"\n"))
	}
	go feed(port, s.ours[0], process)
	done := make(chan error, 2)
	go func() { done <- frames.Copy(vm.Stdout, s.ours[1]) }()
	go func() { done <- frames.Copy(vm.Stderr, s.ours[2]) }()
	status, err = reap(process.Pid)
	drain(done)
	return status, err
}

// start starts the command. Without a process it returns the status that a shell
// would give, and why.
func start(job *vm.Job, s *streams, attr *syscall.SysProcAttr) (*os.Process, int, error) {
	env := environment(job)
	path, err := lookPath(job.Args[0], env)
	if err != nil {
		return nil, 127, err
	}
	process, err := os.StartProcess(path, job.Args, &os.ProcAttr{Dir: job.Dir, Env: env, Files: s.theirs[:], Sys: attr})
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, 127, err
		}
		return nil, 126, err
	}
	return process, 0, nil
}

// lookPath finds a program in the PATH that the command will have. A path stays as it
// is: the kernel takes it from the directory that the command starts in.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, entry := range env {
		if value, ok := strings.CutPrefix(entry, "PATH="); ok {
			if err := os.Setenv("PATH", value); err != nil {
				return "", err
			}
		}
	}
	return exec.LookPath(name)
}

// feed does what the host says while the command runs: writes its input, and asks
// it for its goroutines. A command that has closed its input is no trouble.
func feed(port, stdin *os.File, process *os.Process) {
	for {
		f, err := vm.ReadFrame(port)
		switch {
		case err != nil:
			stdin.Close()
			return
		case f.Kind == vm.Quit:
			_ = process.Signal(syscall.SIGQUIT)
		case len(f.Data) == 0:
			stdin.Close()
		default:
			_, _ = stdin.Write(f.Data)
		}
	}
}

// reap waits for children until pid is among them and returns its status as a
// shell would say it.
func reap(pid int) (int, error) {
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR || got != pid && err == nil:
		case err != nil:
			return 0, fmt.Errorf("wait for the command: %w", err)
		case status.Signaled():
			return 128 + int(status.Signal()), nil
		case status.Exited():
			return status.ExitStatus(), nil
		}
	}
}

// drainLimit is how long after the command's end its output may stay open: who
// holds it then is a process that it left behind.
const drainLimit = 2 * time.Second

// drain waits for both outputs to end.
func drain(done <-chan error) {
	limit := time.After(drainLimit)
	for range 2 {
		select {
		case <-done:
		case <-limit:
			return
		}
	}
}

// How often forget looks, and from how many inodes on it acts.
const (
	forgetInterval = 500 * time.Millisecond
	forgetInodes   = 12000
)

// forget drops what the kernel remembers of files when it is too much: the host
// holds a descriptor for each of them, and has a limit.
func forget() {
	for range time.Tick(forgetInterval) {
		text, err := os.ReadFile("/proc/sys/fs/inode-nr") // "inodes free"
		if err != nil {
			return
		}
		fields := strings.Fields(string(text))
		if n, err := strconv.Atoi(fields[0]); err == nil && n > forgetInodes {
			_ = os.WriteFile("/proc/sys/vm/drop_caches", []byte("6"), 0) // 2, and 4 for no word about it
		}
	}
}
