package namespaces

import (
	"os"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/bare"
)

// ahead is a namespace in the making.
type ahead struct {
	thread *bare.Thread
	open   *bare.Call
}

// ownNetwork names the network namespace of the thread that opens it.
var ownNetwork = []byte("/proc/thread-self/ns/net\x00")

// Ahead begins to make the network namespace that a clone would make, and returns at
// once: it takes the kernel longer than all the others together (some 0.3 ms), and
// another processor can do it while the plan is assembled. The calls of setUp are made
// in it. Open takes it over, as one to be joined; who does not get as far calls Drop.
//
// It does nothing where the namespace must belong to a user namespace that is not ours,
// or where there can be no thread: then it is left to the clone.
func (s *Set) Ahead(setUp ...*bare.Call) {
	if !s.Creates(specs.NetworkNamespace) || !s.Shares(specs.UserNamespace) {
		return
	}
	cwd := unix.AT_FDCWD
	unshare := &bare.Call{Name: "create network namespace", Number: unix.SYS_UNSHARE, First: bare.Value(unix.CLONE_NEWNET)}
	open := &bare.Call{
		Name: "open network namespace", Number: unix.SYS_OPENAT, First: bare.Value(uintptr(cwd)),
		Second: uintptr(unsafe.Pointer(unsafe.SliceData(ownNetwork))), Third: unix.O_RDONLY | unix.O_CLOEXEC,
	}
	calls := append(append([]*bare.Call{unshare}, setUp...), open)
	if thread, err := bare.Start(calls...); err == nil {
		s.network = &ahead{thread, open}
	}
}

// wait returns the namespace when it is made.
func (a *ahead) wait() (*os.File, error) {
	if err := a.thread.Wait(); err != nil {
		return nil, err
	}
	return os.NewFile(a.open.Result, "network namespace"), nil
}

// drop waits for it, and gives it back.
func (a *ahead) drop() {
	if a == nil {
		return
	}
	if f, err := a.wait(); err == nil {
		f.Close()
	}
}

// Drop gives back what Ahead has begun and Open has not taken over.
func (s *Set) Drop() {
	s.network.drop()
	s.network = nil
}

// takeOver makes a namespace that was begun by Ahead the first of those to be joined.
func (s *Set) takeOver() *ahead {
	a := s.network
	if a != nil {
		k, _ := find(specs.NetworkNamespace)
		s.New &^= k.flag
		s.Joins = append([]Join{{Type: k.name, kind: k}}, s.Joins...)
		s.network = nil
	}
	return a
}
