package runtime

import (
	"os/exec"
	goruntime "runtime"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/testkit"
)

// ownNetwork gives the thread, and the commands that it starts, a network namespace with
// a pair of devices that nobody misses.
func ownNetwork(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs ip (package iproute2)")
	}
	goruntime.LockOSThread() // and never unlocked: the runtime ends the thread with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	ip(t, "link add boxnd0 type veth peer name boxnd1")
	ip(t, "address add 198.51.100.7/24 dev boxnd0")
}

func ip(t *testing.T, args string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v\n%s", args, err, out)
	}
}

// A device is in the container before the first hook looks, under its new name and with
// its address; into a namespace of the container's own or one that is joined.
func TestNetDevices(t *testing.T) {
	b := newBench(t, "busybox", "ip", "address", "show", "dev", "inside0")
	ownNetwork(t)
	b.spec.Linux.NetDevices = map[string]specs.LinuxNetDevice{"boxnd0": {Name: "inside0"}}
	b.spec.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "/sbin/ip link show dev inside0"}, Env: []string{"PATH=/bin:/sbin:/usr/bin:/usr/sbin"}}}}
	if r := b.run(); r.code != 0 || !strings.Contains(r.out, "198.51.100.7/24") || !strings.Contains(r.out, "UP") {
		t.Errorf("%+v", r)
	}
	if r := b.run(); r.code != 1 || !strings.Contains(r.err, "link not found for interface boxnd0") { // the pair has ended with the container
		t.Errorf("without the device: %+v", r)
	}
	b.spec.Linux.NetDevices = map[string]specs.LinuxNetDevice{"boxnd0": {Name: "a/b"}}
	if r := b.run(); r.code != 1 || !strings.Contains(r.err, `invalid network device name "a/b"`) {
		t.Errorf("a bad name: %+v", r)
	}
	b.spec.Linux.NetDevices = map[string]specs.LinuxNetDevice{"boxnd0": {}}
	for i, ns := range b.spec.Linux.Namespaces {
		if ns.Type == specs.NetworkNamespace {
			b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces[:i:i], b.spec.Linux.Namespaces[i+1:]...)
			break
		}
	}
	if r := b.run(); r.code != 1 || !strings.Contains(r.err, "unable to move network devices without a NET namespace") {
		t.Errorf("in the host's namespace: %+v", r)
	}
}

// The owner of a namespace that is joined finds the device there when the container has
// gone.
func TestNetDeviceInJoinedNamespace(t *testing.T) {
	b := newBench(t, "busybox", "ip", "address", "show", "dev", "boxnd0")
	ownNetwork(t)
	owner := exec.Command("unshare", "--net", "sleep", "1000")
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = owner.Process.Kill()
		_ = owner.Wait()
	})
	path := namespaceOf(t, owner)
	b.spec.Linux.NetDevices = map[string]specs.LinuxNetDevice{"boxnd0": {}}
	for i, ns := range b.spec.Linux.Namespaces {
		if ns.Type == specs.NetworkNamespace {
			b.spec.Linux.Namespaces[i].Path = path
		}
	}
	if r := b.run(); r.code != 0 || !strings.Contains(r.out, "198.51.100.7/24") {
		t.Errorf("%+v", r)
	}
	if out, err := exec.Command("nsenter", "--net="+path, "ip", "address", "show", "dev", "boxnd0").CombinedOutput(); err != nil || !strings.Contains(string(out), "198.51.100.7/24") {
		t.Errorf("afterwards: %v\n%s", err, out)
	}
}

// namespaceOf waits until unshare has made its namespace and returns its path.
func namespaceOf(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	proc := procPath(cmd.Process.Pid)
	for testkit.Text(t, proc+"/comm") != "sleep\n" {
		goruntime.Gosched()
	}
	return proc + "/ns/net"
}

func procPath(pid int) string { return "/proc/" + strconv.Itoa(pid) }
