package namespaces

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/bare"
	"box/internal/testkit"
	"box/pkg/launch"
)

// TestAheadIsJoined: the namespaces made ahead are the first to be joined and no clone
// flags any more, have been set up, and are neither ours nor another's.
func TestAheadIsJoined(t *testing.T) {
	testkit.RequireRoot(t)
	l := linux("network", "uts", "ipc")
	network, _ := find(specs.NetworkNamespace)
	setUp := network.openOwn()
	begun := Begin(l.Namespaces, setUp)
	s, err := From(l)
	if err != nil {
		t.Fatal(err)
	}
	s.Take(begun)
	o, err := s.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	files, err := o.Files()
	if err != nil || len(files) != 2 {
		t.Fatalf("files %v, %v", files, err)
	}
	link := func(f string) string {
		target, err := os.Readlink("/proc/self/" + f)
		if err != nil {
			t.Error(err)
		}
		return target
	}
	for i, k := range []string{"ipc", "net"} {
		made, own := link("fd/"+strconv.Itoa(int(files[i].Fd()))), link("ns/"+k)
		if made == own || !strings.HasPrefix(made, k+":") {
			t.Errorf("made %s, own %s", made, own)
		}
	}
	made, setUpIn := link("fd/"+strconv.Itoa(int(files[1].Fd()))), link("fd/"+strconv.Itoa(int(setUp.Result)))
	unix.Close(int(setUp.Result))
	if made != setUpIn {
		t.Errorf("made %s, set up in %s", made, setUpIn)
	}
	if s.New != unix.CLONE_NEWUTS {
		t.Errorf("flags of the clone: %#x", s.New)
	}
	var p launch.Plan
	s.AddJoins(&p, []int{7, 8})
	if text := p.String(); !strings.Contains(text, "setns(7, CLONE_NEWIPC)") || !strings.Contains(text, "setns(8, CLONE_NEWNET)") {
		t.Errorf("plan:\n%s", text)
	}
}

// TestAheadFails: what goes wrong in the making is heard of, and leaves no descriptor; nor
// does what nobody wants.
func TestAheadFails(t *testing.T) {
	testkit.RequireRoot(t)
	before := descriptors(t)
	cause := unix.EBADF
	for _, open := range []bool{true, false} {
		l := linux("network")
		s, err := From(l)
		if err != nil {
			t.Fatal(err)
		}
		s.Take(Begin(l.Namespaces, &bare.Call{Name: "close nothing", Number: unix.SYS_CLOSE, First: bare.Value(^uintptr(0))}))
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
	for _, list := range [][]string{{"network"}, {"network", "ipc"}, {"uts"}, {"network=/proc/self/ns/net"}} {
		s, err := From(linux(list...))
		if err != nil {
			t.Fatal(err)
		}
		s.Take(Begin(linux("network").Namespaces))
		if wanted := len(list) == 1 && list[0] == "network"; (s.begun != nil) != wanted {
			t.Errorf("%v takes a network namespace: %v, want %v", list, !wanted, wanted)
		}
		s.Drop()
	}
	if after := descriptors(t); !slices.Equal(before, after) {
		t.Errorf("descriptors before %v, after %v", before, after)
	}
}

// TestNotAhead: the namespace is the business of the clone, or of the program, where it
// belongs to another user namespace, and nobody's where it is there already.
func TestNotAhead(t *testing.T) {
	for _, list := range [][]string{{"uts"}, {"network=/proc/self/ns/net"}, {"network", "user"}, {"network", "user=/proc/self/ns/user"}} {
		l := linux(list...)
		if a := Begin(l.Namespaces); a != nil {
			t.Errorf("%v: made ahead", list)
			a.Drop()
		}
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
