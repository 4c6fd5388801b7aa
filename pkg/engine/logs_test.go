package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"box/pkg/record"
)

func (f *fixture) logs(id string, o LogOptions) (stdout, stderr string) {
	f.t.Helper()
	var out, errs strings.Builder
	if err := f.Logs(f.t.Context(), id, o, &out, &errs); err != nil {
		f.t.Fatal(err)
	}
	return out.String(), errs.String()
}

// awaitLog follows the log until a line is there.
func (f *fixture) awaitLog(id, line string) {
	f.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		f.t.Fatal(err)
	}
	defer r.Close()
	go func() {
		// Ends by the broken pipe once the line was seen.
		_ = f.Logs(f.t.Context(), id, LogOptions{Follow: true}, w, w)
		_ = w.Close()
	}()
	var got strings.Builder
	buf := make([]byte, 512)
	for !strings.Contains(got.String(), line) {
		n, err := r.Read(buf)
		if err != nil {
			f.t.Fatalf("log of %s ended without %q: %q", id, line, got.String())
		}
		got.Write(buf[:n])
	}
}

func TestDetachedContainerIsLoggedAndWaitedFor(t *testing.T) {
	f := newFixture(t)
	r := f.detached(f.sh("echo one; echo two >&2; printf three; exit 3"))
	if code := f.wait(r.Name); code != 3 {
		t.Errorf("wait: %d, want 3", code)
	}
	if code := f.wait(r.ID[:10]); code != 3 {
		t.Errorf("second wait, by prefix: %d, want 3", code)
	}
	if out, errs := f.logs(r.ID, LogOptions{}); out != "one\nthree" || errs != "two\n" {
		t.Errorf("logs: %q, %q", out, errs)
	}
	got, err := f.Find(t.Context(), r.ID)
	if err != nil || got.State.Status != record.Exited || got.State.ExitCode != 3 || got.State.FinishedAt.Before(got.State.StartedAt) {
		t.Errorf("record: %+v %v", got, err)
	}
	f.awaitEnd()
	f.checkEmpty(filepath.Join(f.config.RunRoot, "containers"))
	f.checkCgroupGone(r.ID)
}

func TestLogsFollowTailAndTimes(t *testing.T) {
	f := newFixture(t)
	r := f.detached(f.sh("seq 1 100; while ! test -e /tmp/go; do usleep 10000; done; echo last"))
	f.awaitLog(r.ID, "100\n")
	two := 2
	if out, _ := f.logs(r.ID, LogOptions{Tail: &two}); out != "99\n100\n" {
		t.Errorf("tail: %q", out)
	}
	var followed strings.Builder
	done := make(chan error, 1)
	go func() {
		done <- f.Logs(t.Context(), r.ID, LogOptions{Follow: true, Tail: &two}, &followed, nil)
	}()
	if _, err := f.Exec(t.Context(), r.ID, ExecOptions{Args: []string{"touch", "/tmp/go"}}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil || followed.String() != "99\n100\nlast\n" {
		t.Errorf("follow: %q %v", followed.String(), err)
	}
	zero := 0
	if out, _ := f.logs(r.ID, LogOptions{Tail: &zero}); out != "" {
		t.Errorf("tail 0: %q", out)
	}
	one := 1
	out, _ := f.logs(r.ID, LogOptions{Tail: &one, Timestamps: true})
	stamp, text, _ := strings.Cut(out, " ")
	if _, err := time.Parse(time.RFC3339Nano, stamp); err != nil || text != "last\n" {
		t.Errorf("timestamps: %q", out)
	}
	if out, _ := f.logs(r.ID, LogOptions{Since: time.Now().Add(time.Hour)}); out != "" {
		t.Errorf("since the future: %q", out)
	}
	if out, _ := f.logs(r.ID, LogOptions{Until: r.Created}); out != "" {
		t.Errorf("until the past: %q", out)
	}
}
