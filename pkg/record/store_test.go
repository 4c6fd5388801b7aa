package record

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"box/internal/errdefs"
)

func newStore(t *testing.T) *Store {
	t.Helper()
	// Long, so that socket addresses must go by descriptor.
	long := strings.Repeat("d", 60)
	s, err := OpenStore(filepath.Join(t.TempDir(), long, "root"), filepath.Join(t.TempDir(), long, "run"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// container makes a container directory with a saved record.
func container(t *testing.T, s *Store, id, name string) *Record {
	t.Helper()
	if err := os.Mkdir(s.Dir(id), 0o700); err != nil {
		t.Fatal(err)
	}
	r := &Record{ID: id, Name: name, State: State{Status: Created}}
	if err := s.Save(r, Durable); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestNewIDsAreIDsAndDiffer(t *testing.T) {
	a, b := NewID(), NewID()
	if !IsID(a) || a == b || isDigits(Short(a)) {
		t.Errorf("ids %q and %q", a, b)
	}
	for _, bad := range []string{"", "abc", strings.Repeat("A", 64), strings.Repeat("g", 64), "../" + a[3:], a + "0"} {
		if IsID(bad) {
			t.Errorf("%q counts as an id", bad)
		}
	}
}

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"web": true, "a1": true, "A.b-c_d": true, "0x": true,
		"": false, "a": false, "_a": false, ".a": false, "-a": false, "a/b": false, "a b": false, "ä1": false,
		strings.Repeat("a", 129): false, "..": false, "a\x00b": false,
	} {
		if err := CheckName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestNameBelongsToOneContainer(t *testing.T) {
	s := newStore(t)
	a, b := NewID(), NewID()
	container(t, s, a, "web")
	if err := s.ReserveName("web", a); err != nil {
		t.Fatal(err)
	}
	container(t, s, b, "db")
	if err := s.ReserveName("web", b); !errors.Is(err, errdefs.ErrConflict) || errdefs.Hint(err) == "" {
		t.Errorf("second reservation: %v", err)
	}
	if err := s.ReleaseName("web", b); err != nil {
		t.Error(err)
	}
	if id, err := s.Resolve("web"); err != nil || id != a {
		t.Errorf("a stranger's release took the name away: %v", err)
	}
	// The container vanishes without a word: its name is a leftover.
	if err := os.RemoveAll(s.Dir(a)); err != nil {
		t.Fatal(err)
	}
	if err := s.ReserveName("web", b); err != nil {
		t.Errorf("take over a leftover: %v", err)
	}
	if id, err := s.Resolve("/web"); err != nil || id != b {
		t.Errorf("after the take-over: %s %v", id, err)
	}
}

func TestResolvePrefersNamesToPrefixes(t *testing.T) {
	s := newStore(t)
	a := "aaaa" + strings.Repeat("0", 60)
	b := "aabb" + strings.Repeat("0", 60)
	container(t, s, a, "first")
	container(t, s, b, "aa")
	if err := s.ReserveName("aa", b); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"aa": b, "aaa": a, "aab": b, a: a} {
		if id, err := s.Resolve(key); err != nil || id != want {
			t.Errorf("%s: %s %v, want %s", key, id, err, want)
		}
	}
	if _, err := s.Resolve("a"); !errors.Is(err, errdefs.ErrInvalid) || !strings.Contains(err.Error(), "ambiguous") {
		t.Errorf("ambiguous prefix: %v", err)
	}
	if _, err := s.Resolve("aac"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("no such prefix: %v", err)
	}
}

func TestListShowsDamagedRecords(t *testing.T) {
	s := newStore(t)
	good, bad, other := NewID(), NewID(), NewID()
	container(t, s, good, "good")
	container(t, s, bad, "bad")
	if err := os.WriteFile(filepath.Join(s.Dir(bad), recordFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(s.Dir(other), 0o700); err != nil { // unfinished
		t.Fatal(err)
	}
	list, err := s.List()
	if err != nil || len(list) != 2 {
		t.Fatalf("%d records, %v", len(list), err)
	}
	for _, r := range list {
		if r.ID == bad && (r.State.Status != Dead || r.State.Error == "") {
			t.Errorf("damaged record: %+v", r)
		}
	}
	if _, err := s.Load(bad); !errors.Is(err, errdefs.ErrCorrupt) {
		t.Errorf("load: %v", err)
	}
}

func TestRecordMustNameItsDirectory(t *testing.T) {
	s := newStore(t)
	a, b := NewID(), NewID()
	container(t, s, a, "one")
	if err := os.Rename(s.Dir(a), s.Dir(b)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(b); !errors.Is(err, errdefs.ErrCorrupt) {
		t.Errorf("a record in another container's place: %v", err)
	}
}

func TestLockIsExclusiveAndShowsOrphans(t *testing.T) {
	s := newStore(t)
	id := NewID()
	l, err := s.TryLock(id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.TryLock(id); !errors.Is(err, ErrLocked) {
		t.Errorf("second lock: %v", err)
	}
	if ids, err := s.Orphans(); err != nil || len(ids) != 0 || !s.Locked(id) {
		t.Errorf("orphans while locked: %v %v", ids, err)
	}
	if err := l.Abandon(); err != nil { // as the kernel does for one who is killed
		t.Fatal(err)
	}
	if ids, err := s.Orphans(); err != nil || len(ids) != 1 || ids[0] != id {
		t.Errorf("orphans after the holder's death: %v %v", ids, err)
	}
	if l, err = s.TryLock(id); err != nil {
		t.Fatal(err)
	}
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	if ids, err := s.Orphans(); err != nil || len(ids) != 0 {
		t.Errorf("orphans after unlock: %v %v", ids, err)
	}
}

func TestWaiterGetsAFreshLock(t *testing.T) {
	s := newStore(t)
	id := NewID()
	first, err := s.TryLock(id)
	if err != nil {
		t.Fatal(err)
	}
	type result struct {
		l   *Lock
		err error
	}
	done := make(chan result)
	for range 2 {
		go func() {
			l, err := s.LockContext(t.Context(), id)
			done <- result{l, err}
		}()
	}
	if err := first.Unlock(); err != nil {
		t.Fatal(err)
	}
	// Each in turn must hold a lock that others see, although every holder
	// removes the file.
	for range 2 {
		r := <-done
		if r.err != nil {
			t.Fatal(r.err)
		}
		if _, err := s.TryLock(id); !errors.Is(err, ErrLocked) {
			t.Errorf("the waiter's lock is not seen: %v", err)
		}
		if err := r.l.Unlock(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLockContextGivesUp(t *testing.T) {
	s := newStore(t)
	id := NewID()
	l, err := s.TryLock(id)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	if _, err := s.LockContext(ctx, id); !errors.Is(err, why) {
		t.Errorf("cancelled wait: %v", err)
	}
	if err := l.Unlock(); err != nil {
		t.Error(err)
	}
}

func TestScrapCanBeRepeated(t *testing.T) {
	s := newStore(t)
	id, volume := NewID(), NewID()
	r := container(t, s, id, "gone")
	r.Host.AutoRemove = true
	r.Host.Mounts = []Mount{{Name: volume, Anonymous: true}, {Name: "kept"}, {Name: "../../etc", Anonymous: true}}
	for _, name := range []string{volume, "kept"} {
		if err := os.MkdirAll(s.VolumeDir(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.ReserveName("gone", id); err != nil {
		t.Fatal(err)
	}
	removed := 0
	layer := func(string) error { removed++; return nil }
	for range 2 {
		if err := s.Scrap(id, r, layer); err != nil {
			t.Fatal(err)
		}
	}
	if removed != 2 || s.exists(id) {
		t.Errorf("layer removed %d times, directory there: %v", removed, s.exists(id))
	}
	if _, err := os.Stat(s.VolumeDir(volume)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("anonymous volume: %v", err)
	}
	if _, err := os.Stat(s.VolumeDir("kept")); err != nil {
		t.Errorf("named volume: %v", err)
	}
}

// A container whose making was interrupted has no record; its volumes are
// found by the note.
func TestScrapWithoutRecord(t *testing.T) {
	s := newStore(t)
	id, volume := NewID(), NewID()
	if err := errors.Join(os.Mkdir(s.Dir(id), 0o700), os.MkdirAll(s.VolumeDir(volume), 0o700), s.ReserveName("half", id)); err != nil {
		t.Fatal(err)
	}
	if err := s.NoteVolumes(id, []Mount{{Name: volume, Anonymous: true}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Scrap(id, nil, func(string) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(s.VolumeDir(volume))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("volume left: %v", err)
	}
	if _, err := os.Lstat(s.namePath("half")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("name left: %v", err)
	}
}

// What a runtime has inherited keeps nobody from the lock, but shows that it is
// still there.
func TestRuntimeIsWaitedForApart(t *testing.T) {
	s := newStore(t)
	id := NewID()
	l, err := s.TryLock(id)
	if err != nil {
		t.Fatal(err)
	}
	inherited, err := l.RuntimeFile()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Abandon(); err != nil { // as if the holder were killed
		t.Fatal(err)
	}
	if ids, err := s.Orphans(); err != nil || len(ids) != 1 {
		t.Errorf("orphans: %v %v", ids, err)
	}
	next, err := s.TryLock(id)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("long enough")
	cancel(why)
	if err := next.AwaitRuntime(ctx); !errors.Is(err, why) {
		t.Errorf("a living runtime was not waited for: %v", err)
	}
	if err := inherited.Close(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(next.AwaitRuntime(t.Context()), next.Unlock()); err != nil {
		t.Error(err)
	}
}

func TestLockAtRestDoesNotWaitForTheEnd(t *testing.T) {
	s := newStore(t)
	r := container(t, s, NewID(), "web")
	l, err := s.TryLock(r.ID)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan error)
	lockAtRest := func() {
		l, err := s.LockAtRest(t.Context(), r.ID)
		if err == nil {
			err = l.Unlock()
		}
		got <- err
	}
	go lockAtRest()
	r.State.Status = Running
	if err := s.Save(r, Volatile); err != nil {
		t.Fatal(err)
	}
	if err := <-got; !errors.Is(err, ErrRunning) {
		t.Errorf("of a container that was started: %v", err)
	}
	r.State.Status = Exited
	if err := s.Save(r, Volatile); err != nil {
		t.Fatal(err)
	}
	go lockAtRest()
	if err := errors.Join(l.Unlock(), <-got); err != nil {
		t.Error(err)
	}
}
