package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Peeked is what the peeker got hold of.
type Peeked struct {
	Rounds    int            // how often it has looked at all processes
	Strangers int            // sightings of a process that is none of the container's programs
	Grabs     map[string]int // what it could reach, and how often
}

// peek looks at every other process that it sees, over and over until its standard
// input ends, and tries what a container's root would try to get out by one that is
// about to join: its root and working directory, its program, its descriptors, its
// memory, and to trace it (CVE-2016-9962, CVE-2019-5736). With the word "trace" it
// also traces.
func peek(args []string) (any, error) {
	var over atomic.Bool
	go func() { untilEnd(); over.Store(true) }()
	p := &peeker{
		found: Peeked{Grabs: map[string]int{}}, caps: permitted("/proc/self"),
		trace: len(args) > 0 && args[0] == "trace",
	}
	if err := unix.Stat("/", &p.root); err != nil {
		return nil, err
	}
	if err := unix.Stat("/proc/self/exe", &p.exe); err != nil {
		return nil, err
	}
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	runtime.LockOSThread() // a tracer is a thread
	fmt.Fprintln(os.Stderr, "peeking")
	for !over.Load() {
		p.round(proc)
		p.found.Rounds++
	}
	return p.found, nil
}

type peeker struct {
	found Peeked
	trace bool
	caps  uint64      // our own
	root  unix.Stat_t // of the container
	exe   unix.Stat_t // the probe
}

// round looks at all processes but ourselves, who are the container's first.
func (p *peeker) round(proc *os.File) {
	_, _ = proc.Seek(0, 0)
	names, _ := proc.Readdirnames(-1)
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil && pid != os.Getpid() {
			p.look(pid)
		}
	}
}

// look tries everything at one process. What happens to be the command already is
// the container's own and no find: so what it executes is looked at again at the end.
func (p *peeker) look(pid int) {
	dir := "/proc/" + strconv.Itoa(pid)
	if !p.stranger(dir) {
		return
	}
	p.found.Strangers++
	finds, caps := p.descriptors(dir+"/fd"), p.beyond(dir)
	for _, link := range []string{"root", "cwd"} {
		if p.elsewhere(dir + "/" + link) {
			finds = append(finds, "another "+link)
		}
	}
	if fd, err := unix.Open(dir+"/mem", unix.O_RDWR|unix.O_CLOEXEC, 0); err == nil {
		unix.Close(fd)
		if caps != "" {
			finds = append(finds, "memory of somebody with capabilities "+caps)
		}
	}
	if p.stranger(dir) {
		p.grab(finds...)
	}
	if p.trace {
		p.seize(pid, dir)
	}
}

// seize traces a process and notes what it still had to lose.
func (p *peeker) seize(pid int, dir string) {
	if unix.PtraceSeize(pid) != nil || unix.PtraceInterrupt(pid) != nil {
		return
	}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(pid, &ws, unix.WALL, nil); err != nil || !ws.Stopped() {
		return
	}
	if caps := p.beyond(dir); caps != "" && p.stranger(dir) {
		p.grab("trace somebody with capabilities " + caps)
	}
	_ = unix.PtraceDetach(pid)
}

// beyond are the permitted capabilities of a process if there are any that we lack:
// who may trace others gains nothing from one with the same.
func (p *peeker) beyond(dir string) string {
	caps := permitted(dir)
	if caps&^p.caps == 0 {
		return ""
	}
	return strconv.FormatUint(caps, 16)
}

// permitted reads the capabilities of a process from its status.
func permitted(dir string) uint64 {
	status, _ := os.ReadFile(dir + "/status")
	for line := range strings.Lines(string(status)) {
		if text, ok := strings.CutPrefix(line, "CapPrm:"); ok {
			caps, _ := strconv.ParseUint(strings.TrimSpace(text), 16, 64)
			return caps
		}
	}
	return 0
}

func (p *peeker) grab(finds ...string) {
	for _, what := range finds {
		p.found.Grabs[what]++
	}
}

// elsewhere reports whether a link of procfs leads to a directory that is not the
// container's root.
func (p *peeker) elsewhere(link string) bool {
	var st unix.Stat_t
	return unix.Stat(link, &st) == nil && (st.Dev != p.root.Dev || st.Ino != p.root.Ino)
}

// stranger opens what a process executes and says whether that is none of the
// container's programs. There are two of that kind: the runtime, which must never be
// reachable, and the sealed launch program. A program that is well kept is one, too.
func (p *peeker) stranger(dir string) bool {
	fd, err := unix.Open(dir+"/exe", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err == unix.EACCES || err == unix.EPERM
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Dev == p.exe.Dev && st.Ino == p.exe.Ino {
		return false
	}
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	switch {
	case err != nil:
		name, _ := os.Readlink(dir + "/exe")
		p.grab("program " + name)
	case seals&unix.F_SEAL_WRITE == 0:
		p.grab("launch program without seals")
	}
	return true
}

// descriptors looks at the open files of a process. Pipes and sockets lead nowhere
// by being seen; files and directories do.
func (p *peeker) descriptors(dir string) (finds []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		link := dir + "/" + e.Name()
		var st unix.Stat_t
		if unix.Stat(link, &st) != nil {
			continue
		}
		name, _ := os.Readlink(link)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			if st.Dev == p.root.Dev && st.Ino == p.root.Ino {
				continue // it is about to enter its working directory
			}
			finds = append(finds, "open directory "+name)
		case unix.S_IFREG:
			if !strings.HasPrefix(name, "/memfd:box-launch") {
				finds = append(finds, "open file "+name)
			}
		}
	}
	return finds
}
