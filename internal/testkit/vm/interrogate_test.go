package vm

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// fakeQEMU answers on its end of a channel: a line for each line that comes.
func fakeQEMU(t *testing.T, answers ...string) (near *os.File) {
	t.Helper()
	near, far, err := pair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close() })
	go func() {
		defer far.Close()
		fmt.Fprintln(far, `{"QMP": {"version": {}}}`)
		lines := bufio.NewScanner(far)
		for _, answer := range append([]string{`{"return": {}}`}, answers...) {
			if !lines.Scan() {
				return
			}
			fmt.Fprintln(far, strings.ReplaceAll(answer, "REQUEST", strings.ReplaceAll(lines.Text(), `"`, "'")))
		}
	}()
	return near
}

func TestControl(t *testing.T) {
	q, err := newControl(fakeQEMU(t, `{"event": "STOP"}`+"\n"+`{"return": "REQUEST"}`, `{"error": {"desc": "no such thing"}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := `{'execute':'human-monitor-command','arguments':{'command-line':'info x'}}`
	if got := q.ask("info x"); got != want {
		t.Errorf("got %s", got)
	}
	if _, err := q.call("other", nil); err == nil || err.Error() != "other: no such thing" {
		t.Errorf("got %v", err)
	}
	if _, err := q.call("last", nil); err == nil {
		t.Error("a call to nobody succeeds")
	}
}

func TestPress(t *testing.T) {
	q, err := newControl(fakeQEMU(t, `{"return": {}}`, `{"error": {"desc": "no"}}`))
	if err != nil {
		t.Fatal(err)
	}
	var serial strings.Builder
	if err := q.press(&serial, 'l'); err != nil {
		t.Error(err)
	}
	if err := q.press(&serial, 'w'); err == nil || serial.String() != "l" { // without a break it would be input
		t.Errorf("%v, on the line: %q", err, &serial)
	}
}

func TestSettle(t *testing.T) {
	r := &record{news: make(chan struct{}, 1)}
	if r.settle(0, time.Millisecond, time.Hour) {
		t.Error("silence was taken for an answer")
	}
	fmt.Fprint(r, "old")
	go func() { fmt.Fprint(r, "new") }()
	if !r.settle(3, time.Hour, time.Millisecond) || r.since(3) != "new" {
		t.Errorf("heard %q", r.since(3))
	}
	if !r.settle(3, time.Millisecond, time.Hour) {
		t.Error("an answer that does not end was taken for silence")
	}
}

func TestRegisters(t *testing.T) {
	text := "\nCPU#0\r\nRAX=0 RBX=1\r\nRIP=ffff RFL=02 [-] HLT=0\r\nES =0\r\n\nCPU#1\nRIP=1 HLT=1\n"
	if got := registers(text); got != "CPU#0 RIP=ffff RFL=02 [-] HLT=0\nCPU#1 RIP=1 HLT=1\n" {
		t.Errorf("got %q", got)
	}
}

func TestThread(t *testing.T) {
	got := thread("12 (a) b) S 1 2 3 4 5 6 7 8 9 10 77 88 0 0", "futex_wait")
	if got != "12 (a) b) S user 77 system 88 futex_wait\n" {
		t.Errorf("got %q", got)
	}
	if got := thread("", ""); got != "" {
		t.Errorf("of a thread that has gone: %q", got)
	}
}

func TestCondense(t *testing.T) {
	text := `[    1.5] Memory cgroup out of memory: Killed
[    2.0] sysrq: Show backtrace of all active CPUs
[    2.0] NMI backtrace for cpu 0
[    2.0] RIP: 0010:exc_int3+0x11/0x120
[    2.0] Code: a1 e8 <f6> 83
[    2.0] RSP: 0018:ffff EFLAGS: 46
[    2.0] Call Trace:
[    2.0]  <IRQ>
[    2.0]  asm_exc_int3+0x35/0x40
[    2.0]  ? enqueue_entity+0x195/0x4f0
[    2.0]  </IRQ>
[    3.0] sysrq: Show State
[    3.0] task:rcu_gp          state:I stack:0     pid:3     ppid:2      flags:0x00004000
[    3.0] Call Trace:
[    3.0]  rescuer_thread+0x1/0x2
[    3.0] task:kworker/0:1     state:D stack:0     pid:4     ppid:2      flags:0x00004000
[    3.0]  stuck+0x1/0x2
[    3.0] task:box-runtime     state:S stack:0     pid:104   ppid:95     flags:0x00000002
[    3.0] Call Trace:
[    3.0]  <TASK>
[    3.0]  schedule+0x5d/0xe0
[    3.0]  do_wait+0x1/0x2
[    3.0]  </TASK>
[    3.0] Sched Debug Version: v0.11
[    3.0] lots of figures
`
	want := `Memory cgroup out of memory: Killed
sysrq: Show backtrace of all active CPUs
NMI backtrace for cpu 0
RIP: 0010:exc_int3+0x11/0x120
<IRQ>
asm_exc_int3+0x35/0x40
sysrq: Show State
task:kworker/0:1 state:D stack:0 pid:4 ppid:2 flags:0x00004000 < stuck
task:box-runtime state:S stack:0 pid:104 ppid:95 flags:0x00000002 < schedule < do_wait
`
	if got := condense(text); got != want {
		t.Errorf("got\n%s", got)
	}
}

func TestNameless(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	disk, err := makeDisk()
	if err != nil {
		t.Skip(err) // mkfs is not there
	}
	defer disk.Close()
	if names, err := os.ReadDir(dir); err != nil || len(names) != 0 {
		t.Errorf("left behind: %v, %v", names, err)
	}
	magic := make([]byte, 2) // ext4's, Documentation/filesystems/ext4/super.rst
	if _, err := disk.ReadAt(magic, 1024+0x38); err != nil || magic[0] != 0x53 || magic[1] != 0xef {
		t.Errorf("magic %x, %v", magic, err)
	}
}

func TestListenIsConnected(t *testing.T) {
	listener, client, err := listen()
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	defer client.Close()
	if _, err := io.ReadAll(client); err == nil {
		t.Error("a client whose listener has gone reads an end without an error")
	}
}
