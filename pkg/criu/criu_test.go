package criu

import (
	"errors"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
)

// The test binary is criu when this variable is set: it plays the answers that the
// variable names.
const asCriu = "BOX_TEST_CRIU"

func TestMain(m *testing.M) {
	if play := os.Getenv(asCriu); play != "" {
		os.Exit(pretend(play))
	}
	os.Exit(m.Run())
}

// pretend is a criu that reads one request and sends what the test wants to see.
func pretend(play string) int {
	const socket = 3
	request := make([]byte, maxResponse)
	n, err := unix.Read(socket, request)
	if err != nil || n == 0 {
		return 1
	}
	var kind Kind
	_ = fields(request[:n], func(field int, n uint64, _ []byte) {
		if field == 1 {
			kind = Kind(n)
		}
	})
	reply := func(kind Kind, success bool, more func(*message)) {
		var m message
		m.number(1, int(kind))
		m.number(2, map[bool]int{true: 1}[success])
		if more != nil {
			more(&m)
		}
		_, _ = unix.Write(socket, m)
	}
	switch play {
	case "dies":
		return 0
	case "fails":
		reply(kind, false, func(m *message) { m.number(7, 52); m.text(9, "no way") })
		return 1
	case "features":
		reply(kind, true, func(m *message) {
			var f message
			f.number(1, 1)
			f.number(2, 0)
			m.sub(8, f)
		})
		return 0
	case "status":
		reply(kind, true, nil)
		return 7
	case "other":
		reply(FeatureCheck, true, nil)
		return 0
	case "mute":
		reply(notice, true, nil)
		return 0
	case "long":
		_, _ = unix.Write(socket, make([]byte, maxResponse+1))
		return 0
	case "descriptors":
		_ = unix.Sendmsg(socket, []byte{0x08, 0x01, 0x10, 0x00}, unix.UnixRights(0, 1, 2, 3, 0, 1), nil, 0)
		return 0
	case "garbage":
		_, _ = unix.Write(socket, []byte{0x0a, 0xff})
		return 0
	}
	var n1 message
	n1.text(1, "setup-namespaces")
	n1.number(2, 4711)
	reply(notice, true, func(m *message) { m.sub(5, n1) })
	if n, _ := unix.Read(socket, request); n == 0 {
		return 1 // nobody answers
	}
	var n2 message
	n2.text(1, "orphan-pts-master")
	var m message
	m.number(1, int(notice))
	m.number(2, 1)
	m.sub(5, n2)
	_ = unix.Sendmsg(socket, m, unix.UnixRights(0), nil, 0)
	if n, _ := unix.Read(socket, request); n == 0 {
		return 1
	}
	reply(kind, true, nil)
	return 0
}

// play is a command that starts the pretended criu.
func play(t *testing.T, what string) Command {
	t.Helper()
	t.Setenv(asCriu, what)
	return Command{Path: os.Args[0], Stdio: [3]*os.File{os.Stdin, os.Stdout, os.Stderr}}
}

func someOptions(t *testing.T) *Options {
	t.Helper()
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return &Options{Images: dir}
}

func TestNotices(t *testing.T) {
	var got []string
	c := play(t, "all goes well")
	started := false
	c.Start = func(cmd *exec.Cmd) error { started = true; return cmd.Start() }
	err := Run(c, Restore, someOptions(t), func(n *Notice) error {
		got = append(got, n.Script)
		if n.Script == "setup-namespaces" && (n.Pid != 4711 || n.File != nil) || n.Script == "orphan-pts-master" && n.File == nil {
			t.Errorf("notice %+v", n)
		}
		return nil
	})
	if err != nil || !started || strings.Join(got, " ") != "setup-namespaces orphan-pts-master" {
		t.Errorf("notices %v, started %v, %v", got, started, err)
	}
}

func TestFailures(t *testing.T) {
	refuse := errors.New("hook failed")
	o := someOptions(t)
	for what, want := range map[string]string{
		"dies":    "criu ended without an answer",
		"fails":   "criu failed: errno 52: no way",
		"status":  "criu: exit status 7",
		"garbage": "read criu's answer",
		"well":    "hook failed",
		"other":   "criu answers request 1 with 9",
		"mute":    "criu's notice says nothing",
		"long":    "longer than",
		// Of more than there is room for the kernel gives none of the rest.
		"descriptors": "too many descriptors",
	} {
		before := openFiles(t)
		err := Run(play(t, what), Dump, o, func(*Notice) error { return refuse })
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
		if after := openFiles(t); after != before {
			t.Errorf("%s: %d descriptors, %d before", what, after, before)
		}
	}
	err := Run(Command{Path: "/no/such/criu"}, Dump, someOptions(t), nil)
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no criu: %v", err)
	}
}

// openFiles counts our descriptors.
func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestCheck(t *testing.T) {
	memTrack, lazyPages, err := Check(play(t, "features"))
	if err != nil || !memTrack || lazyPages {
		t.Errorf("%v %v %v", memTrack, lazyPages, err)
	}
}

func TestOptionsOnTheWire(t *testing.T) {
	o := someOptions(t)
	o.Pid, o.Root, o.LeaveRunning, o.Cgroups = 7, "/root", true, 3
	o.EmptyNamespace, o.Mounts = unix.CLONE_NEWNET, []Pair{{"/a", "/b"}, {"/c", "/d"}}
	o.Inherit, o.External = []Inherit{{"pipe:[1]", 0}}, []string{"net[1]:x"}
	o.PageServer, o.PagePort = "::1", 99
	numbers, texts := map[int]uint64{}, map[int][]string{}
	if err := fields(o.encode(), func(field int, n uint64, inner []byte) {
		if inner == nil {
			numbers[field] = n
		} else {
			texts[field] = append(texts[field], string(inner))
		}
	}); err != nil {
		t.Fatal(err)
	}
	wantNumbers := map[int]uint64{
		1: uint64(o.Images.Fd()), 2: 7, 3: 1, 9: logLevel, 12: 1, 24: 1, 34: 3, 38: unix.CLONE_NEWNET, 50: 1,
	}
	wantTexts := map[int][]string{
		11: {"\x0a\x03::1\x10\x63"}, 13: {"/root"}, 23: {"\x0a\x02/a\x12\x02/b", "\x0a\x02/c\x12\x02/d"},
		27: {"\x0a\x08pipe:[1]\x10\x00"}, 37: {"net[1]:x"},
	}
	if !reflect.DeepEqual(numbers, wantNumbers) || !reflect.DeepEqual(texts, wantTexts) {
		t.Errorf("got %v\n%v\nwant %v\n%v", numbers, texts, wantNumbers, wantTexts)
	}
}

func TestMode(t *testing.T) {
	for name, want := range map[string]int{"": 6, "ignore": 0, "soft": 3, "full": 4, "strict": 5} {
		if got, err := Mode(name); err != nil || got != want {
			t.Errorf("Mode(%q) = %d, %v", name, got, err)
		}
	}
	if _, err := Mode("hard"); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("Mode(hard): %v", err)
	}
}

func FuzzFields(f *testing.F) {
	f.Add([]byte{0x08, 0x01, 0x12, 0x02, 0x61, 0x62, 0x1d, 1, 2, 3, 4, 0x21, 1, 2, 3, 4, 5, 6, 7, 8})
	f.Add([]byte{0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, data []byte) {
		total := 0
		if err := fields(data, func(_ int, _ uint64, inner []byte) { total += len(inner) }); err == nil && total > len(data) {
			t.Errorf("%d bytes of %d", total, len(data))
		}
		_, _ = parse(data)
	})
}
