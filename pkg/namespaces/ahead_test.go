package namespaces

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/bare"
	"box/internal/testkit"
	"box/pkg/launch"
)

// TestAheadIsJoined: a namespace made ahead is the first to be joined and no clone flag
// any more, has been set up, and is neither ours nor another's.
func TestAheadIsJoined(t *testing.T) {
	testkit.RequireRoot(t)
	s, err := From(linux("network", "uts"))
	if err != nil {
		t.Fatal(err)
	}
	cwd := unix.AT_FDCWD
	setUp := &bare.Call{
		Name: "open", Number: unix.SYS_OPENAT, First: bare.Value(uintptr(cwd)),
		Second: uintptr(unsafe.Pointer(unsafe.SliceData(ownNetwork))), Third: unix.O_RDONLY | unix.O_CLOEXEC,
	}
	s.Ahead(setUp)
	o, err := s.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	files, err := o.Files()
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v, %v", files, err)
	}
	own, _ := os.Readlink("/proc/self/ns/net")
	made, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(files[0].Fd())))
	setUpIn, _ := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(setUp.Result)))
	unix.Close(int(setUp.Result))
	if err != nil || made == own || made != setUpIn || !strings.HasPrefix(made, "net:") {
		t.Errorf("made %s, set up in %s, own %s, %v", made, setUpIn, own, err)
	}
	if s.New != unix.CLONE_NEWUTS {
		t.Errorf("flags of the clone: %#x", s.New)
	}
	var p launch.Plan
	s.AddJoins(&p, []int{7})
	if text := p.String(); !strings.Contains(text, "setns(7, CLONE_NEWNET)") {
		t.Errorf("plan:\n%s", text)
	}
}

// TestAheadFails: what goes wrong in the making is heard of, and leaves no descriptor.
func TestAheadFails(t *testing.T) {
	testkit.RequireRoot(t)
	before := descriptors(t)
	cause := unix.EBADF
	for _, open := range []bool{true, false} {
		s, err := From(linux("network"))
		if err != nil {
			t.Fatal(err)
		}
		s.Ahead(&bare.Call{Name: "close nothing", Number: unix.SYS_CLOSE, First: bare.Value(^uintptr(0))})
		if !open {
			s.Drop()
			continue
		}
		o, err := s.Open()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.Files(); !errors.Is(err, cause) {
			t.Errorf("error %v, want %v", err, cause)
		}
		o.Close()
	}
	dropped, err := From(linux("network"))
	if err != nil {
		t.Fatal(err)
	}
	dropped.Ahead()
	dropped.Drop()
	if after := descriptors(t); !slices.Equal(before, after) {
		t.Errorf("descriptors before %v, after %v", before, after)
	}
}

// TestNotAhead: the namespace is the business of the clone, or of the program, where it
// belongs to another user namespace, and nobody's where it is there already.
func TestNotAhead(t *testing.T) {
	for _, list := range [][]string{{"uts"}, {"network=/proc/self/ns/net"}, {"network", "user"}, {"network", "user=/proc/self/ns/user"}} {
		l := linux(list...)
		if slices.Contains(list, "user") {
			l.UIDMappings = []specs.LinuxIDMapping{{HostID: 1000, Size: 1}}
			l.GIDMappings = l.UIDMappings
		}
		s, err := From(l)
		if err != nil {
			t.Fatal(err)
		}
		if s.Ahead(); s.network != nil {
			t.Errorf("%v: made ahead", list)
		}
		s.Drop()
	}
}

// descriptors are the numbers of the open ones.
func descriptors(t *testing.T) (list []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}
