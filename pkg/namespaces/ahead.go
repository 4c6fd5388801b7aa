package namespaces

import (
	"os"
	"slices"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/bare"
)

// ahead is namespaces in the making.
type ahead struct {
	thread *bare.Thread
	kinds  []kind
	opens  []*bare.Call // by kind
}

// aheadToo are made with a network namespace: they take the kernel a tenth of its time.
const aheadToo = unix.CLONE_NEWIPC

// Ahead begins to make the network namespace that a clone would make, and returns at
// once: it takes the kernel longer than all the others together (some 0.3 ms), and
// another processor can do it while the plan is assembled. The calls of setUp are made
// in it. Open takes over what is made, as namespaces to be joined; who does not get as
// far calls Drop.
//
// It does nothing where the namespace must belong to a user namespace that is not ours,
// or where there can be no thread: then it is left to the clone.
func (s *Set) Ahead(setUp ...*bare.Call) {
	if !s.Creates(specs.NetworkNamespace) || !s.Shares(specs.UserNamespace) {
		return
	}
	a, flags := &ahead{}, s.New&(unix.CLONE_NEWNET|aheadToo)
	for _, k := range kinds {
		if flags&k.flag != 0 {
			a.kinds, a.opens = append(a.kinds, k), append(a.opens, k.openOwn())
		}
	}
	unshare := &bare.Call{Name: "create network namespace", Number: unix.SYS_UNSHARE, First: bare.Value(flags)}
	calls := slices.Concat([]*bare.Call{unshare}, setUp, a.opens)
	var err error
	if a.thread, err = bare.Start(calls...); err == nil {
		s.begun = a
	}
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
func (a *ahead) wait() (files []*os.File, err error) {
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

// drop waits for them, and gives them back.
func (a *ahead) drop() {
	if a == nil {
		return
	}
	if files, err := a.wait(); err == nil {
		closeAll(files)
	}
}

// Drop gives back what Ahead has begun and Open has not taken over.
func (s *Set) Drop() {
	s.begun.drop()
	s.begun = nil
}

// takeOver makes what was begun by Ahead the first namespaces to be joined.
func (s *Set) takeOver() *ahead {
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
