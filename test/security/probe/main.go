// Command probe is what runs in the containers of the security tests, and the
// harness around box-runtime where that has to be a process of its own. It is built
// by the tests, static, and is the only program in their root file systems.
//
// It says what it found as JSON on its standard output. Finding something is no
// failure of the probe: the tests judge.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// verbs are the probe's commands by their first word.
var verbs = map[string]func(args []string) (any, error){
	"true":    func([]string) (any, error) { return nil, nil },
	"wait":    func([]string) (any, error) { return nil, unix.Pause() },
	"peek":    peek,
	"race":    race,
	"covered": covered,
	"watch":   watch,
	"spoil":   spoil,
	"self":    self,
	"devices": devices,
	"sockets": sockets,
	"reexec":  reexec,
	"reach":   reach,
	"tree":    tree,
}

func main() {
	if len(os.Args) < 2 || verbs[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "probe: unknown verb:", os.Args[1:])
		os.Exit(2)
	}
	found, err := verbs[os.Args[1]](os.Args[2:])
	if err == nil && found != nil {
		err = json.NewEncoder(os.Stdout).Encode(found)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

// untilEnd waits for the end of the standard input: that is how tests say enough.
func untilEnd() { _, _ = io.Copy(io.Discard, os.Stdin) }
