package tail

import (
	"io"
	"os"
	"testing"
	"time"
)

func pipe(t *testing.T) (r *Reader, in *os.File) {
	t.Helper()
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		out.Close()
		in.Close()
	})
	return New(out), in
}

func TestEndOfFile(t *testing.T) {
	r, in := pipe(t)
	in.WriteString("all")
	in.Close()
	if got, err := io.ReadAll(r); string(got) != "all" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
}

// The writing end stays open, as a daemon's would.
func TestSilenceAfterTheEnd(t *testing.T) {
	r, in := pipe(t)
	in.WriteString("before")
	r.End()
	in.WriteString(" after")
	if got, err := io.ReadAll(r); string(got) != "before after" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
}

// A reader that was away longer than the patience misses nothing.
func TestSlowReader(t *testing.T) {
	r, in := pipe(t)
	in.WriteString("kept")
	r.End()
	// Time that passes is what is tested; that more of it passes does no harm.
	time.Sleep(Patience + Patience/4)
	if got, err := io.ReadAll(r); string(got) != "kept" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
}

// Before the end, silence says nothing: the reader waits for the next byte.
func TestSilenceBeforeTheEnd(t *testing.T) {
	r, in := pipe(t)
	got := make(chan string)
	go func() {
		buf := make([]byte, 8)
		n, err := r.Read(buf)
		if err != nil {
			got <- err.Error()
			return
		}
		got <- string(buf[:n])
	}()
	select {
	case early := <-got:
		t.Fatalf("read %q of a silent pipe", early)
	case <-time.After(2*Patience + Patience/2):
	}
	in.WriteString("late")
	if s := <-got; s != "late" {
		t.Errorf("read %q", s)
	}
}

func TestClosedFileIsAnError(t *testing.T) {
	r, _ := pipe(t)
	r.file.Close()
	if n, err := r.Read(make([]byte, 1)); n != 0 || err == nil || err == io.EOF {
		t.Errorf("read %d, %v", n, err)
	}
}
