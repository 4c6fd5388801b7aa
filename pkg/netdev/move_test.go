package netdev

import (
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/internal/testkit"
	"box/pkg/launch"
)

func TestCheck(t *testing.T) {
	for name, want := range map[string]string{
		"eth0": "", "a/b": `invalid network device name "a/b"`, "": `invalid network device name ""`,
		"..": "invalid", "a:1": "invalid", "two words": "invalid", "sixteen-letters-": "invalid", "fifteen-letters": "",
	} {
		err := Check(map[string]specs.LinuxNetDevice{name: {}})
		if want == "" && err != nil || want != "" && (!errors.Is(err, errdefs.ErrInvalid) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
	if err := Check(map[string]specs.LinuxNetDevice{"eth0": {Name: "a b"}}); err == nil {
		t.Error("a bad name inside was taken")
	}
	if err := Check(map[string]specs.LinuxNetDevice{"eth0": {Name: "eth%d"}}); err != nil {
		t.Errorf("a template: %v", err)
	}
}

func TestAttributes(t *testing.T) {
	b := text(info(7, 0, 0), 3, "lo")
	b = number(b, 4, 1500)
	if len(b)%4 != 0 {
		t.Errorf("%d bytes are not aligned", len(b))
	}
	got := attributes(b, infoSize)
	if string(got[3]) != "lo\x00" || len(got[4]) != 4 || len(got) != 2 {
		t.Errorf("%v", got)
	}
	for _, damaged := range [][]byte{nil, b[:infoSize+2], append(info(1, 0, 0), 0, 0, 1, 0), append(info(1, 0, 0), 99, 0, 1, 0)} {
		if got := attributes(damaged, infoSize); len(got) != 0 {
			t.Errorf("%v: %v", damaged, got)
		}
	}
	if err := status([]byte{1}); err == nil {
		t.Error("half an error is no success")
	}
}

// A list that has changed while it was written is no list: it may lack what was there all
// the time.
func TestAnswer(t *testing.T) {
	message := func(kind, flags uint16, data ...byte) *syscall.NetlinkMessage {
		return &syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: kind, Flags: flags}, Data: data}
	}
	var a answer
	a.add(message(unix.RTM_NEWADDR, 0, 1))
	a.add(message(unix.RTM_NEWADDR, unix.NLM_F_DUMP_INTR, 2))
	if a.complete || !a.interrupted || len(a.bodies) != 2 {
		t.Errorf("%+v", a)
	}
	a.add(message(unix.NLMSG_DONE, 0, 0, 0, 0, 0))
	a.add(message(unix.RTM_NEWADDR, 0, 3)) // behind the end
	if !a.complete || a.err != nil || len(a.bodies) != 2 {
		t.Errorf("%+v", a)
	}
	var refused answer
	refused.add(message(unix.NLMSG_ERROR, 0, binary.NativeEndian.AppendUint32(nil, uint32(1<<32-int64(unix.EPERM)))...))
	if !refused.complete || refused.err != unix.EPERM {
		t.Errorf("%+v", refused)
	}
}

// world is a pair of network namespaces: the thread's own, which ends with the test, and
// that of a process.
type world struct {
	t *testing.T
	p *launch.Process
}

// newWorld moves the calling thread into a namespace with a pair of devices, one of which
// is to be moved.
func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs ip (package iproute2)")
	}
	runtime.LockOSThread() // and never unlocked: the runtime ends the thread with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t}
	w.ip("link add boxnd0 type veth peer name boxnd1")
	w.ip("link set lo up")
	w.p = w.process()
	return w
}

// process starts one in a new network namespace; it waits there for the end.
func (w *world) process() *launch.Process {
	w.t.Helper()
	p := &launch.Plan{ReportFD: 3}
	AddLoopback(p)
	p.Mark("up", "")
	p.Await(launch.Int(0), "wait", "")
	r, end, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Close()
	attr := launch.Attr{Files: []*os.File{r}}
	attr.Sys.Cloneflags = unix.CLONE_NEWNET
	proc := testkit.StartPlan(w.t, p, attr)
	w.t.Cleanup(func() {
		end.Close()
		_, _ = proc.Wait()
	})
	if mark, err := proc.Report(); mark != "up" {
		w.t.Fatalf("%q, %v", mark, err)
	}
	return proc
}

func (w *world) ip(args string) string {
	w.t.Helper()
	out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput()
	if err != nil {
		w.t.Fatalf("ip %s: %v\n%s", args, err, out)
	}
	return string(out)
}

// ipThere is ip in the other namespace.
func (w *world) ipThere(args string) string {
	w.t.Helper()
	cmd := append([]string{"--net=/proc/" + strconv.Itoa(w.p.Pid) + "/ns/net", "ip"}, strings.Fields(args)...)
	out, err := exec.Command("nsenter", cmd...).CombinedOutput()
	if err != nil {
		w.t.Fatalf("nsenter ip %s: %v\n%s", args, err, out)
	}
	return string(out)
}

func (w *world) move(name string, d specs.LinuxNetDevice) error {
	return Move(w.p.Pid, w.p.Pidfd, map[string]specs.LinuxNetDevice{name: d})
}

// A device keeps what was set on it: address, MTU and hardware address; it is up; and
// what is bound to where it was stays behind.
func TestMove(t *testing.T) {
	w := newWorld(t)
	w.ip("link set boxnd0 mtu 1789 address 02:11:22:33:44:55")
	w.ip("address add 169.254.169.77/32 dev boxnd0")
	w.ip("address add 2001:db8::7/64 dev boxnd0 nodad")
	w.ip("address add 127.0.0.33/8 dev boxnd0 scope host")
	w.ip("address add 192.0.2.9/24 dev boxnd0 valid_lft 600 preferred_lft 600")
	w.ip("link set boxnd0 up")
	if err := w.move("boxnd0", specs.LinuxNetDevice{Name: "inside0"}); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("ip", "link", "show", "dev", "boxnd0").CombinedOutput(); err == nil {
		t.Errorf("it is still here:\n%s", out)
	}
	out := w.ipThere("address show dev inside0")
	for _, want := range []string{"mtu 1789 ", "ether 02:11:22:33:44:55 ", "inet 169.254.169.77/32 scope global ", "inet6 2001:db8::7/64 scope global", ",UP"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	for _, lost := range []string{"127.0.0.33", "192.0.2.9"} {
		if strings.Contains(out, lost) {
			t.Errorf("%s was taken along:\n%s", lost, out)
		}
	}
}

// The number of a device may be taken over there; a template is for the kernel to fill.
func TestMoveToWhereNamesAreTaken(t *testing.T) {
	w := newWorld(t)
	w.ip("address add 2001:db8::7/64 dev boxnd0 nodad")
	w.ip("link set boxnd0 up")
	index := strings.TrimSpace(strings.SplitN(w.ip("-o link show dev boxnd0"), ":", 2)[0])
	w.ipThere("link add name eth0 index " + index + " type veth peer name other")
	err := w.move("boxnd0", specs.LinuxNetDevice{Name: "eth0"})
	if !errors.Is(err, unix.EEXIST) || !strings.HasPrefix(err.Error(), "move network device boxnd0: as eth0: ") {
		t.Errorf("a name that is taken: %v", err)
	}
	w.isAsItWas("boxnd0", "2001:db8::7/64")
	if err := w.move("boxnd0", specs.LinuxNetDevice{Name: "eth%d"}); err != nil {
		t.Fatal(err)
	}
	if out := w.ipThere("link show dev eth1"); !strings.Contains(out, ",UP") {
		t.Errorf("eth1 is not up:\n%s", out)
	}
}

func TestMoveOfNoDevice(t *testing.T) {
	w := newWorld(t)
	err := w.move("boxnd7", specs.LinuxNetDevice{})
	if !errors.Is(err, errdefs.ErrNotFound) || !strings.Contains(err.Error(), "link not found for interface boxnd7 on runtime namespace") {
		t.Errorf("have %v", err)
	}
}

// What the kernel refuses to move (it says so only when it is told to) goes on working
// where it is: the loopback interface of the host, of all devices.
func TestDeviceThatCannotLeave(t *testing.T) {
	w := newWorld(t)
	w.ip("address add 2001:db8::1/128 dev lo nodad")
	w.ip("address add 192.0.2.1/32 dev lo")
	err := w.move("lo", specs.LinuxNetDevice{Name: "other"})
	if !errors.Is(err, unix.EINVAL) || !strings.HasPrefix(err.Error(), "move network device lo: as other: ") {
		t.Errorf("the loopback interface was moved: %v", err)
	}
	w.isAsItWas("lo", "2001:db8::1/128", "192.0.2.1/32", "127.0.0.1/8")
	// One that was down stays so.
	w.ip("link set lo down")
	if err := w.move("lo", specs.LinuxNetDevice{Name: "other"}); err == nil {
		t.Error("the loopback interface was moved")
	}
	if out := w.ip("link show dev lo"); strings.Contains(out, ",UP") {
		t.Errorf("it was down before:\n%s", out)
	}
}

// isAsItWas checks that a device of this namespace is up and has its addresses.
func (w *world) isAsItWas(name string, addresses ...string) {
	w.t.Helper()
	out := w.ip("address show dev " + name)
	for _, want := range append(addresses, "UP") {
		if !strings.Contains(out, want) {
			w.t.Errorf("no %q in\n%s", want, out)
		}
	}
}
