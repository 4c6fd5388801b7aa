package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMain is main for the first process of a job, which this program is too.
func TestMain(m *testing.M) {
	runVerb(os.Args)
	if len(os.Args) > 2 && os.Args[1] == abandonVerb {
		abandon(os.Args[2])
	}
	os.Exit(m.Run())
}

// quickFiles are the files of runc's suite that take seconds and need nothing
// special of the machine.
var quickFiles = []string{"version", "umask", "env", "start", "state", "kill", "mask", "hooks", "cwd", "root"}

// TestQuickFilesOfRuncsSuite runs a part of the suite where it has been made ready;
// `make runc-suite` runs all of it.
func TestQuickFilesOfRuncsSuite(t *testing.T) {
	s := suite{dir: cacheDir()}
	runtime := filepath.Join(os.Getenv("BOX_BIN"), "box-runtime")
	switch _, err := os.Stat(filepath.Join(s.source(), "complete")); {
	case os.Geteuid() != 0:
		t.Skip("needs root: starts containers")
	case testing.Short():
		t.Skip("takes half a minute")
	case err != nil:
		t.Skip("runc's suite is not built on this machine; make runc-suite does that")
	case os.Getenv("BOX_BIN") == "":
		t.Skip("BOX_BIN does not name the directory of the programs")
	}
	known, err := readKnown("known.txt")
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	run := session{
		options: options{runtime: runtime, verbose: true, perFile: 5 * time.Minute, perTest: time.Minute},
		suite:   s, store: store{dir: filepath.Join(s.dir, "results")}, out: &said,
	}
	for _, file := range quickFiles {
		t.Run(file, func(t *testing.T) {
			said.Reset()
			verdicts, err := run.compare(t.Context(), "v2", file, known)
			if err != nil {
				t.Fatal(err)
			}
			if len(verdicts) == 0 || len(errorsIn(verdicts)) > 0 {
				t.Error(said.String())
			}
		})
	}
}
