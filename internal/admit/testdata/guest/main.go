// Command guest says that it runs, and gives its place back, or uses all its processors,
// when it is told to.
package main

import (
	"bufio"
	"os"

	"box/internal/admit"
)

func main() {
	os.Stdout.WriteString("in\n")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() { // until the test closes our stdin
		if lines.Text() == "spread" {
			admit.Spread()
			os.Stdout.WriteString("spread\n")
			continue
		}
		admit.Leave()
		os.Stdout.WriteString("left\n")
	}
}
