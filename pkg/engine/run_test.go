package engine

import (
	"testing"
)

func TestRunTellsExitCodeAndOutput(t *testing.T) {
	f := newFixture(t)
	code, out, errs := f.run(f.sh("echo out; echo err >&2; exit 7"))
	if code != 7 || out != "out\n" || errs != "err\n" {
		t.Errorf("got code %d, stdout %q, stderr %q", code, out, errs)
	}
	f.checkNothingLeft()
}
