package runtime

import (
	"os"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"box/internal/testkit"
)

// Two processes of a container speak over TCP. With --tcp-established they go on with it,
// and no line is lost or comes twice; without, criu refuses.
func TestCheckpointWithConnections(t *testing.T) {
	const talk = `
		busybox nc -l -p 7777 -e sh -c 'while read n; do echo $n >> /tmp/log; echo $n > /tmp/n; done' &
		sleep 1
		i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done | busybox nc 127.0.0.1 7777`
	b := newBench(t, "sh", "-c", talk)
	needsCriu(t)
	b.save()
	b.nulls("run", "--detach", b.id)
	b.counts(0)
	images := b.bundle + "/images"
	if r := b.try("checkpoint", "--image-path", b.bundle+"/refused", b.id); r.code == 0 || !strings.Contains(r.err, "tcp-established") {
		t.Errorf("without the flag: %+v", r)
	}
	b.expectStatus(Running)
	b.do("checkpoint", "--tcp-established", "--image-path", images, b.id)
	stopped := b.counter()
	b.nulls("restore", "--detach", "--tcp-established", "--image-path", images, b.id)
	b.counts(stopped + 5)
	b.do("delete", "--force", b.id)
	lines := strings.Fields(testkit.Text(t, b.bundle+"/rootfs/tmp/log"))
	for i, line := range lines {
		if line != strconv.Itoa(i+1) {
			t.Fatalf("line %d is %s", i+1, line)
		}
	}
}

// A container that has joined another's pid namespace is written down without that, and
// comes back into the one that its configuration names now.
func TestCheckpointInJoinedPidNamespace(t *testing.T) {
	needsCriu(t)
	holder := newBench(t, "sleep", "1000")
	holder.id += "-holder"
	holder.save()
	holder.nulls("run", "--detach", holder.id)
	defer holder.do("delete", "--force", holder.id)
	b := newBench(t, "sh", "-c", "i=0; while :; do i=$((i+1)); echo $i > /tmp/n; sleep 0.1; done")
	path := "/proc/" + strconv.Itoa(holder.expectStatus(Running).Pid) + "/ns/pid"
	for i, n := range b.spec.Linux.Namespaces {
		if n.Type == specs.PIDNamespace {
			b.spec.Linux.Namespaces[i].Path = path
		}
	}
	b.save()
	b.nulls("run", "--detach", b.id)
	b.counts(0)
	images := b.bundle + "/images"
	b.do("checkpoint", "--image-path", images, b.id)
	stopped := b.counter()
	if err := b.command("restore", "--detach", "--image-path", images, b.id).Run(); err != nil {
		// criu 3.17 makes the process in its own pid namespace, also for runc, and finds
		// its number taken there.
		if log := testkit.Text(t, images+"/restore.log"); !strings.Contains(log, "Inheriting external pidns extRootPidNS") {
			t.Errorf("restore: %v\n%s", err, log)
		}
		if st := b.state(); st != nil {
			t.Errorf("a failed restore has left %+v", st)
		}
		t.Skip("this criu restores into no joined pid namespace")
	}
	b.counts(stopped)
	own, err := os.Readlink("/proc/" + strconv.Itoa(b.expectStatus(Running).Pid) + "/ns/pid")
	if want, _ := os.Readlink(path); err != nil || own != want {
		t.Errorf("restored into %s, %v, want %s", own, err, want)
	}
	b.do("delete", "--force", b.id)
}
