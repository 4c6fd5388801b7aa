package cache

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

func open(t *testing.T) *Cache {
	t.Helper()
	c, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestResultComesBack(t *testing.T) {
	c, key := open(t), digest.FromString("key")
	want := &Result{Newest: time.Unix(5, 6).UTC(), Name: "RUN x", Took: time.Second}
	want.Layer.DiffID, want.Layer.ChainID = digest.FromString("d"), digest.FromString("c")
	want.Layer.Descriptor.Digest = digest.FromString("blob")
	if _, ok := c.Lookup(key); ok {
		t.Fatal("a result before there was one")
	}
	if err := c.Store(key, want); err != nil {
		t.Fatal(err)
	}
	got, ok := c.Lookup(key)
	if d := cmp.Diff(want, got); !ok || d != "" {
		t.Error(d)
	}
	roots, err := c.Roots(t.Context())
	if err != nil || len(roots) != 2 || roots[0] != want.Layer.Descriptor.Digest || roots[1] != want.Layer.ChainID {
		t.Errorf("roots %v, %v", roots, err)
	}
	for range 2 {
		if err := c.Forget(key); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := c.Lookup(key); ok {
		t.Error("a forgotten result came back")
	}
}

// TestTornFileIsAbsent checks that what a crash cut short is no result.
func TestTornFileIsAbsent(t *testing.T) {
	c, key := open(t), digest.FromString("key")
	for _, text := range []string{"", "{", `{"layer":{"diffID":"../../etc/passwd","chainID":"x"}}`} {
		if err := os.WriteFile(filepath.Join(c.dir, resultsDir, key.Encoded()), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, ok := c.Lookup(key); ok {
			t.Errorf("%q is a result", text)
		}
	}
}

func TestContent(t *testing.T) {
	c, sel := open(t), digest.FromString("sel")
	if err := c.StoreContent(sel, digest.FromString("content")); err != nil {
		t.Fatal(err)
	}
	if got, ok := c.Content(sel); !ok || got != digest.FromString("content") {
		t.Errorf("%s %v", got, ok)
	}
}

func TestExplain(t *testing.T) {
	before := Parts{"command": "a", "variable V": "1", "file x": "s"}
	for _, c := range []struct {
		now  Parts
		want string
	}{
		{Parts{"command": "a", "variable V": "1", "file x": "s"}, ""},
		{Parts{"command": "b", "variable V": "1", "file x": "s"}, "command changed"},
		{Parts{"command": "a", "file y": "s", "variable V": "2"}, "file x is gone, file y is new, variable V changed"},
		{Parts{}, "command is gone, file x is gone, variable V is gone"},
		{Parts{"1": "", "2": ""}, "1 is new, 2 is new, command is gone, 2 more"},
	} {
		if got := Explain(before, c.now); got != c.want {
			t.Errorf("%v: %q, want %q", c.now, got, c.want)
		}
	}
}

func TestMemo(t *testing.T) {
	c, key := open(t), digest.FromString("context")
	old := time.Now().Add(-time.Hour)
	st := Stat{Dev: 1, Ino: 2, Mode: 0o100644, Size: 3, MtimeNS: old.UnixNano(), CtimeNS: old.UnixNano()}
	sum := Sum{1, 2, 3}
	m := c.Memo(key)
	m.Add("a/b", st, sum, time.Now())
	m.Add("empty", Stat{MtimeNS: -1}, Sum{}, time.Now())
	racy := st
	racy.CtimeNS = time.Now().UnixNano()
	m.Add("racy", racy, sum, time.Now())
	if err := m.Save(); err != nil {
		t.Fatal(err)
	}

	again := c.Memo(key)
	if got, ok := again.Lookup("a/b", st); !ok || got != sum {
		t.Errorf("sum %x, %v", got, ok)
	}
	if _, ok := again.Lookup("racy", racy); ok {
		t.Error("a file changed while it was read is trusted")
	}
	for name, change := range map[string]func(*Stat){
		"inode": func(s *Stat) { s.Ino++ }, "size": func(s *Stat) { s.Size++ }, "mode": func(s *Stat) { s.Mode++ },
		"mtime": func(s *Stat) { s.MtimeNS++ }, "ctime": func(s *Stat) { s.CtimeNS++ }, "device": func(s *Stat) { s.Dev++ },
	} {
		other := st
		change(&other)
		if _, ok := again.Lookup("a/b", other); ok {
			t.Errorf("a change of %s went unseen", name)
		}
	}
	// Entries that a build does not look at stay.
	again.Add("new", st, sum, time.Now())
	if err := again.Save(); err != nil {
		t.Fatal(err)
	}
	if third := c.Memo(key); len(third.known) != 3 {
		t.Errorf("%d entries, want 3", len(third.known))
	}
}

// TestDamagedMemoIsEmpty flips and cuts every byte of a memo in turn.
func TestDamagedMemoIsEmpty(t *testing.T) {
	good := encodeMemo(map[string]remembered{"a": {Stat{Size: 300}, Sum{9}}, "bb": {Stat{}, Sum{}}})
	if len(decodeMemo(good)) != 2 {
		t.Fatal("an intact memo is not read")
	}
	for i := range good {
		bad := append([]byte(nil), good...)
		bad[i] ^= 0x40
		if decodeMemo(bad) != nil || decodeMemo(good[:i]) != nil {
			t.Fatalf("damage at byte %d went unseen", i)
		}
	}
}
