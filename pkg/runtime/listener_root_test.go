package runtime

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/sys"
	"box/internal/testkit"
)

// sysMkdir is mkdir(2) of amd64; newer architectures have mkdirat alone.
const sysMkdir = 83

// notification and answer are struct seccomp_notif and seccomp_notif_resp
// (linux/seccomp.h).
type (
	notification struct {
		id         uint64
		pid, flags uint32
		nr         int32
		arch       uint32
		ip         uint64
		args       [6]uint64
	}
	answer struct {
		id    uint64
		value int64
		errno int32
		flags uint32
	}
)

const (
	notifReceive  = 0xc0502100 // SECCOMP_IOCTL_NOTIF_RECV
	notifSend     = 0xc0182101 // SECCOMP_IOCTL_NOTIF_SEND
	notifContinue = 1          // SECCOMP_USER_NOTIF_FLAG_CONTINUE
)

// testAgent answers mkdir with "No medium found" and lets all other calls go on.
type testAgent struct {
	t      *testing.T
	path   string
	wait   sync.WaitGroup
	lock   sync.Mutex
	states []specs.ContainerProcessState
}

func newTestAgent(t *testing.T) *testAgent {
	t.Helper()
	a := &testAgent{t: t, path: filepath.Join(t.TempDir(), "agent")}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: a.path})
	if err != nil {
		t.Fatal(err)
	}
	a.wait.Go(func() {
		for {
			conn, err := l.AcceptUnix()
			if err != nil {
				return // closed
			}
			a.wait.Go(func() { a.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		a.wait.Wait()
	})
	return a
}

// serve takes one listener and answers until its last process has ended.
func (a *testAgent) serve(conn *net.UnixConn) {
	defer conn.Close()
	f, err := conn.File()
	if err != nil {
		a.t.Error(err)
		return
	}
	defer f.Close()
	buf := make([]byte, 64<<10)
	n, files, err := sys.RecvFiles(int(f.Fd()), buf)
	if err != nil || len(files) != 1 {
		a.t.Errorf("agent got %d files, %v", len(files), err)
		return
	}
	defer files[0].Close()
	var st specs.ContainerProcessState
	if err := json.Unmarshal(buf[:n], &st); err != nil {
		a.t.Errorf("agent got %q: %v", buf[:n], err)
		return
	}
	a.lock.Lock()
	a.states = append(a.states, st)
	a.lock.Unlock()
	answerCalls(int(files[0].Fd()))
}

func answerCalls(fd int) {
	for {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(p, -1); err == unix.EINTR {
			continue
		}
		if p[0].Revents&unix.POLLIN == 0 {
			return
		}
		var n notification
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), notifReceive, uintptr(unsafe.Pointer(&n))); errno != 0 {
			continue // the caller has died meanwhile
		}
		reply := answer{id: n.id, flags: notifContinue}
		if n.nr == unix.SYS_MKDIRAT || runtime.GOARCH == "amd64" && n.nr == sysMkdir {
			reply.flags, reply.errno = 0, -int32(unix.ENOMEDIUM)
		}
		_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), notifSend, uintptr(unsafe.Pointer(&reply)))
	}
}

// listenerBench is a container whose profile leaves calls to an agent.
func listenerBench(t *testing.T, path string, calls ...string) *bench {
	b := newBench(t, "busybox", "mkdir", "/tmp/x")
	b.spec.Linux.Seccomp = &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow, ListenerPath: path, ListenerMetadata: "what the agent wants to know",
		Syscalls: []specs.LinuxSyscall{{Names: calls, Action: specs.ActNotify}},
	}
	return b
}

// The calls that a profile leaves to an agent are answered by it: of the container's
// process, of one that joins, and of a hook; with and without no_new_privs, which
// decides when the filter is loaded.
func TestSeccompAgent(t *testing.T) {
	const medium = "No medium found"
	for _, nnp := range []bool{false, true} {
		a := newTestAgent(t)
		b := listenerBench(t, a.path, "mkdir", "mkdirat", "execve", "openat", "openat2", "open", "read", "close", "fcntl", "setresuid", "capset")
		b.spec.Process.NoNewPrivileges = nnp
		b.spec.Annotations = map[string]string{"a": "b"}
		if r := b.run(); r.code == 0 || !strings.Contains(r.err, medium) {
			t.Errorf("run: %+v", r)
		}
		if len(a.states) != 1 {
			t.Fatalf("the agent was told %d times", len(a.states))
		}
		st := a.states[0]
		if st.Pid == 0 || st.State.Pid != st.Pid || st.State.ID != b.id || st.State.Status != specs.StateCreating ||
			st.Metadata != "what the agent wants to know" || len(st.Fds) != 1 || st.Fds[0] != "seccompFd" || st.State.Annotations["a"] != "b" {
			t.Errorf("the agent was told %+v", st)
		}
		b.spec.Process.Args = []string{"sleep", "1000"}
		b.spec.Hooks = &specs.Hooks{StartContainer: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "ls /proc/self/fd > /fds; busybox mkdir /tmp/y 2> /said; true"}}}}
		b.save()
		b.do("run", "-d", b.id)
		if said := testkit.Text(t, b.bundle+"/rootfs/said"); !strings.Contains(said, medium) {
			t.Errorf("hook: %q", said)
		}
		if fds := testkit.Text(t, b.bundle+"/rootfs/fds"); strings.Count(fds, "\n") != 4 { // and that of the directory
			t.Errorf("hook has descriptors %q", fds)
		}
		if r := b.try("exec", b.id, "busybox", "mkdir", "/tmp/z"); r.code == 0 || !strings.Contains(r.err, medium) {
			t.Errorf("exec: %+v", r)
		}
		a.lock.Lock()
		last, main := a.states[len(a.states)-1], a.states[1]
		a.lock.Unlock()
		if last.State.Status != specs.StateRunning || last.State.Pid != main.Pid || last.Pid == main.Pid {
			t.Errorf("at exec the agent was told %+v", last)
		}
		b.do("delete", "--force", b.id)
	}
}

// Without an agent there is no container, and none remains; an agent that nobody needs
// is not asked.
func TestSeccompAgentThatIsMissing(t *testing.T) {
	for _, path := range []string{"/no/such/agent.sock", "@box-no-such-agent"} {
		b := listenerBench(t, path, "mkdir")
		r := b.run()
		if r.code == 0 || !strings.Contains(r.err, "failed to connect with seccomp agent") || !strings.Contains(r.err, path) {
			t.Errorf("%s: %+v", path, r)
		}
		if st := b.state(); st != nil {
			t.Errorf("left behind: %+v", st)
		}
		b.spec.Linux.Seccomp.Syscalls = nil
		if r := b.run(); r.code != 0 {
			t.Errorf("%s, which is not needed: %+v", path, r)
		}
		if err := os.Remove(b.bundle + "/rootfs/tmp/x"); err != nil { // the next one makes it again
			t.Error(err)
		}
	}
}

// An agent that has gone away makes calls fail; it does not make them hang.
func TestSeccompAgentThatDies(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() { // takes the listener and dies
		conn, err := l.AcceptUnix()
		if err == nil {
			_, err = conn.Read(make([]byte, 1)) // what comes with it is closed unread
			conn.Close()
		}
		done <- err
	}()
	b := listenerBench(t, path, "mkdir", "mkdirat")
	r := b.run()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if r.code == 0 || !strings.Contains(r.err, "Function not implemented") {
		t.Errorf("%+v", r)
	}
}

// Profiles are older than calls that the runtime makes: what it has to call itself, it
// has called before the filter counts. CAP_SYS_ADMIN, which is kept to load it, is gone
// in the command.
func TestFilterOlderThanTheRuntime(t *testing.T) {
	b := newBench(t, "cat", "/proc/self/status")
	denied := []string{
		"faccessat2", "openat2", "statx", "prctl", "setresuid", "setresgid", "setgroups", "keyctl", "close_range", "umask",
		"fsopen", "fsconfig", "open_tree", "move_mount", "mount_setattr", "setns", "unshare", "mount",
	}
	b.spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{
		{Names: denied, Action: specs.ActErrno},
	}}
	b.spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: []string{"CAP_KILL"}, Permitted: []string{"CAP_KILL"}, Effective: []string{"CAP_KILL"}}
	for _, c := range []struct {
		nnp  bool
		uid  uint32
		want string // execve raises nothing for a user that is not root
	}{{false, 0, "20"}, {true, 0, "20"}, {false, 1000, "00"}, {true, 1000, "00"}} {
		b.spec.Process.NoNewPrivileges, b.spec.Process.User.UID = c.nnp, c.uid
		r := b.run()
		for _, set := range []string{"CapPrm:\t", "CapEff:\t"} {
			if r.code != 0 || !strings.Contains(r.out, set+"00000000000000"+c.want+"\n") {
				t.Errorf("%+v: %+v", c, r)
			}
		}
	}
}
