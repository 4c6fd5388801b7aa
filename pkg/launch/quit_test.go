package launch

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// A signal ends a program that waits, with the status that shells give to it: also as
// the first process of a pid namespace, where by default nothing would happen.
func TestQuitOn(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGHUP, unix.SIGTERM, unix.SIGSYS} {
		p := &Plan{ReportFD: 3}
		p.QuitOn("test", unix.SIGHUP, unix.SIGTERM, unix.SIGSYS)
		p.Mark("wait", "test")
		// Ended by nothing but a signal: both ends of the pipe are its own.
		p.Add(Step{Name: "read", Call: Read, Args: Args{Int(0), Buffer("byte", 8), Int(1)}})
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		attr := Attr{Files: []*os.File{r, w}}
		if unix.Geteuid() == 0 {
			attr.Sys.Cloneflags = unix.CLONE_NEWPID
		}
		proc := start(t, p, attr)
		if mark, err := proc.Report(); err != nil || mark != "wait" {
			t.Fatal(mark, err)
		}
		if err := unix.PidfdSendSignal(int(proc.Pidfd.Fd()), sig, nil, 0); err != nil {
			t.Fatal(err)
		}
		ws, err := proc.Wait()
		r.Close()
		w.Close()
		if err != nil || !ws.Exited() || ws.ExitStatus() != 128+int(sig) {
			t.Errorf("%v: status %#x, %v; want exit %d", sig, ws, err, 128+int(sig))
		}
	}
}
