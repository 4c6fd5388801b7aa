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
	options := options{runtime: runtime, verbose: true, perFile: 5 * time.Minute, perTest: time.Minute, again: 2}
	for _, file := range quickFiles {
		t.Run(file, func(t *testing.T) { runQuickFile(t, s, options, file, known) })
	}
}

// runQuickFile compares one file. What runc did is stored for others, what the runtime
// under test did is not: the outcomes of a whole run are to be those of one state of it.
func runQuickFile(t *testing.T, s suite, o options, file string, known []difference) {
	var said strings.Builder
	run := session{options: o, suite: s, store: store{dir: filepath.Join(s.dir, "results")}, out: &said}
	standard := s.standard(file)
	base, err := run.outcome(t.Context(), "v2", "v2", file, standard, true)
	if err != nil {
		t.Fatal(err)
	}
	run.store = store{dir: t.TempDir()}
	if err := run.keep(storeKey{view: "v2", runtime: filepath.Base(standard), file: file}, base); err != nil {
		t.Fatal(err)
	}
	verdicts, err := run.compare(t.Context(), "v2", file, known)
	if err != nil {
		t.Fatal(err)
	}
	if len(verdicts) == 0 || len(errorsIn(verdicts)) > 0 {
		t.Error(said.String())
	}
}
