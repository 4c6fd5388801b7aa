package namespaces

import (
	"os"
	"slices"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/bare"
)

// Ahead is namespaces in the making.
type Ahead struct {
	flags  uintptr
	thread *bare.Thread
	kinds  []kind
	opens  []*bare.Call // by kind
}

// aheadToo are made with a network namespace: they take the kernel a tenth of its time.
const aheadToo = unix.CLONE_NEWIPC

// Begin begins to make the network namespace that is asked for, and returns at once: it
// takes the kernel longer than all the others together (some 0.3 ms), and another
// processor can do it while the configuration is looked at and the plan is assembled. The
// calls of setUp are made in it. What is begun goes to Set.Take, or is dropped.
//
// It returns nil where the namespace must belong to a user namespace that is not ours,
// or where there can be no thread: then it is left to the clone.
func Begin(list []specs.LinuxNamespace, setUp ...*bare.Call) *Ahead {
	a := &Ahead{flags: aheadOf(list)}
	if a.flags == 0 {
		return nil
	}
	for _, k := range kinds {
		if a.flags&k.flag != 0 {
			a.kinds, a.opens = append(a.kinds, k), append(a.opens, k.openOwn())
		}
	}
	unshare := &bare.Call{Name: "create network namespace", Number: unix.SYS_UNSHARE, First: bare.Value(a.flags)}
	calls := slices.Concat([]*bare.Call{unshare}, setUp, a.opens)
	var err error
	if a.thread, err = bare.Start(calls...); err != nil {
		return nil
	}
	return a
}

// aheadOf says what of a list can be made ahead, as flags of unshare; 0 for nothing.
func aheadOf(list []specs.LinuxNamespace) (flags uintptr) {
	for _, ns := range list {
		k, _ := find(ns.Type)
		switch {
		case k.flag == unix.CLONE_NEWUSER:
			return 0
		case ns.Path == "":
			flags |= k.flag & (unix.CLONE_NEWNET | aheadToo)
		}
	}
	if flags&unix.CLONE_NEWNET == 0 {
		return 0
	}
	return flags
}

// Take takes over what was begun, nil for nothing, as namespaces to be joined; Open takes
// it from the set. If that is not what the set wants, it is dropped.
func (s *Set) Take(a *Ahead) {
	if a == nil {
		return
	}
	if !s.Shares(specs.UserNamespace) || a.flags != s.New&(unix.CLONE_NEWNET|aheadToo) {
		a.Drop()
		return
	}
	s.begun = a
}

// openOwn opens the namespace of the thread that makes the call.
func (k kind) openOwn() *bare.Call {
	cwd, path := unix.AT_FDCWD, []byte("/proc/thread-self/ns/"+k.proc+"\x00")
	return &bare.Call{
		Name: "open new " + k.proc + " namespace", Number: unix.SYS_OPENAT, First: bare.Value(uintptr(cwd)),
		Second: uintptr(unsafe.Pointer(unsafe.SliceData(path))), Third: unix.O_RDONLY | unix.O_CLOEXEC, Keep: path,
	}
}

// wait returns the namespaces when they are made.
func (a *Ahead) wait() (files []*os.File, err error) {
	err = a.thread.Wait()
	for i, open := range a.opens {
		if fd := int(open.Result); fd > 0 { // what comes after a failure was not done
			files = append(files, os.NewFile(uintptr(fd), a.kinds[i].proc))
		}
	}
	if err != nil {
		closeAll(files)
		return nil, err
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// Drop waits for them, and gives them back. Dropping a nil Ahead does nothing.
func (a *Ahead) Drop() {
	if a == nil {
		return
	}
	if files, err := a.wait(); err == nil {
		closeAll(files)
	}
}

// Drop gives back what was taken and is not opened.
func (s *Set) Drop() {
	s.begun.Drop()
	s.begun = nil
}

// takeOver makes what was begun the first namespaces to be joined.
func (s *Set) takeOver() *Ahead {
	a := s.begun
	if a == nil {
		return nil
	}
	s.begun = nil
	var made []Join
	for _, k := range a.kinds {
		s.New &^= k.flag
		made = append(made, Join{Type: k.name, kind: k})
	}
	s.Joins = append(made, s.Joins...)
	return a
}
