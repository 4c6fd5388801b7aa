// Command guest says that it runs, and gives its place back, uses all its processors, or
// starts a program on two of its threads, when it is told to.
package main

import (
	"bufio"
	"os"
	"os/exec"
	"runtime"

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
