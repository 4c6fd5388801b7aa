package namespaces

import (
	"fmt"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ahead is a namespace in the making.
type ahead struct {
	done <-chan error // comes once, when file is there
	file *os.File
}

// Ahead begins to make the network namespace that a clone would make, and returns at
// once: it takes the kernel longer than all the others together (some 0.3 ms), and
// another processor can do it while the plan is assembled. setUp runs in it. Open takes
// it over, as one to be joined; who does not get as far calls Drop.
//
// It does nothing where the namespace must belong to a user namespace that is not ours.
func (s *Set) Ahead(setUp func() error) {
	if !s.Creates(specs.NetworkNamespace) || !s.Shares(specs.UserNamespace) {
		return
	}
	a := &ahead{}
	a.done = beginOnThread(func() (err error) {
		a.file, err = makeNetwork(setUp)
		return err
	})
	s.network = a
}

// makeNetwork moves the thread into a new network namespace, and opens that.
func makeNetwork(setUp func() error) (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("create network namespace: %w", err)
	}
	if err := setUp(); err != nil {
		return nil, err
	}
	return openNamespace("/proc/thread-self/ns/net")
}

// wait returns the namespace when it is made.
func (a *ahead) wait() (*os.File, error) {
	err := <-a.done
	return a.file, err
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
