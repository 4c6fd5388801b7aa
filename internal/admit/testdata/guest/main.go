// Command guest says that it runs, and gives its place back, uses all its processors, names
// the other ones, stays on a thread, or starts a program on two of its threads, when it is told to.
package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"

	"box/internal/admit"
)

func main() {
	os.Stdout.WriteString("in\n")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() { // until the test closes our stdin
		switch program := lines.Text(); program {
		case "spread":
			admit.Spread()
			os.Stdout.WriteString("spread\n")
		case "others":
			mask := admit.Others()
			for cpu := range 8 * len(mask) {
				if mask[cpu/8]>>(cpu%8)&1 == 1 {
					fmt.Print(cpu, " ")
				}
			}
			fmt.Println()
		case "stay":
			stay()
		case "":
			admit.Leave()
			os.Stdout.WriteString("left\n")
		default:
			start(program)
			done := make(chan bool)
			go func() {
				start(program)
				close(done)
			}()
			<-done
		}
	}
}

func init() { runtime.LockOSThread() } // main is on the first thread, and nobody else

func start(program string) {
	cmd := exec.Command("sh", "-c", program)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	done := admit.Starting()
	err := cmd.Start()
	done()
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		os.Stdout.WriteString(err.Error() + "\n")
	}
}

// stay makes system calls between Starting and what would be the start, for so long that
// the watcher looks in on some of them, which it does from another processor, and says where
// it ends up.
func stay() {
	runtime.UnlockOSThread()
	defer runtime.LockOSThread()
	var its, ours unix.CPUSet
	_ = unix.SchedGetaffinity(0, &its)
	done := admit.Starting()
	_ = unix.SchedGetaffinity(0, &ours)
	for cpu := range len(ours) * 64 {
		if its.IsSet(cpu) {
			ours.Clear(cpu)
		}
	}
	_ = unix.SchedSetaffinity(0, &ours)
	thread, where := unix.Gettid(), "stayed\n"
	for range 10_000 {
		for range 10 {
			_ = unix.Access("/proc/thread-self/status", unix.F_OK)
		}
		if unix.Gettid() != thread {
			where = "moved\n"
			break
		}
	}
	done()
	os.Stdout.WriteString(where)
}
