package runtime

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// join makes the container use a namespace of the process.
func (b *bench) join(kind specs.LinuxNamespaceType, pid int, file string) {
	path := "/proc/" + strconv.Itoa(pid) + "/ns/" + file
	for i := range b.spec.Linux.Namespaces {
		if b.spec.Linux.Namespaces[i].Type == kind {
			b.spec.Linux.Namespaces[i].Path = path
			return
		}
	}
	b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: kind, Path: path})
}

// TestJoinedUserNamespace: a container in the user namespace of another one, with
// others of its own that belong to it, or joined too, also such as the other does not
// own; and a further process in it.
func TestJoinedUserNamespace(t *testing.T) {
	first := newBench(t, "sleep", "1000")
	first.userNamespace()
	pid := first.background()
	defer first.do("delete", "-f", first.id)

	const show = "busybox cat /proc/self/uid_map | busybox tr -s ' '; busybox stat -c %u /; echo $$; hostname"
	for _, c := range []struct {
		name string
		edit func(*bench)
		want string
	}{
		{"own others", func(b *bench) { b.spec.Hostname = "second" }, " 0 100000 65536\n0\n1\nsecond\n"},
		{"all of it", func(b *bench) {
			for kind, file := range map[specs.LinuxNamespaceType]string{
				specs.NetworkNamespace: "net", specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts",
			} {
				b.join(kind, pid, file)
			}
			b.spec.Hostname = ""
		}, " 0 100000 65536\n0\n1\n" + first.spec.Hostname + "\n"},
		{"host's uts", func(b *bench) {
			b.join(specs.UTSNamespace, os.Getpid(), "uts")
			b.spec.Hostname = ""
		}, " 0 100000 65536\n0\n1\n" + hostname(t) + "\n"},
	} {
		t.Run(strings.NewReplacer(" ", "-", "'", "").Replace(c.name), func(t *testing.T) {
			b := newBench(t, "sh", "-c", show)
			b.userNamespace()
			b.join(specs.UserNamespace, pid, "user")
			b.spec.Linux.UIDMappings, b.spec.Linux.GIDMappings = nil, nil
			c.edit(b)
			b.expectOutput(c.want)
			b.spec.Process.Args = []string{"sleep", "1000"}
			b.background()
			defer b.do("delete", "-f", b.id)
			if got := b.do("exec", b.id, "readlink", "/proc/self/ns/user"); got != link(t, pid, "user") {
				t.Errorf("exec is in %s, want %s", got, link(t, pid, "user"))
			}
		})
	}
}

func hostname(t *testing.T) string {
	t.Helper()
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// link is what readlink prints for a namespace of the process.
func link(t *testing.T, pid int, file string) string {
	t.Helper()
	to, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, file))
	if err != nil {
		t.Fatal(err)
	}
	return to + "\n"
}

// TestTimeOffsets: in a user namespace as well, new or joined.
func TestTimeOffsets(t *testing.T) {
	for _, name := range []string{"plain", "own-ids", "joined-ids"} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, "sh", "-c", "busybox tr -s ' ' </proc/self/timens_offsets")
			switch name {
			case "own-ids":
				b.userNamespace()
			case "joined-ids":
				first := newBench(t, "sleep", "1000")
				first.id += "-first"
				first.userNamespace()
				pid := first.background()
				defer first.do("delete", "-f", first.id)
				b.userNamespace()
				b.join(specs.UserNamespace, pid, "user")
				b.spec.Linux.UIDMappings, b.spec.Linux.GIDMappings = nil, nil
			}
			b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
			b.spec.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"monotonic": {Secs: 7881, Nanosecs: 2718281}, "boottime": {Secs: 1337}}
			b.expectOutput("monotonic 7881 2718281\nboottime 1337 0\n")
		})
	}
}
