package monitor

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// written passes chunks through a log and reads its entries back.
func written(t *testing.T, chunks ...string) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "container.log")
	l, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	s := l.stream("stdout")
	for _, c := range chunks {
		s.write([]byte(c), at)
	}
	s.flush(at)
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var entries []string
	in := bufio.NewScanner(bytes.NewReader(data))
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var e struct{ Log, Stream, Time string }
		if err := json.Unmarshal(in.Bytes(), &e); err != nil {
			t.Fatalf("entry %q: %v", in.Text(), err)
		}
		if e.Stream != "stdout" || e.Time != "2026-01-02T03:04:05.000000006Z" {
			t.Errorf("entry %q", in.Text())
		}
		entries = append(entries, e.Log)
	}
	return entries
}

func TestLogKeepsLines(t *testing.T) {
	long := strings.Repeat("x", maxLine)
	for _, c := range []struct {
		name   string
		chunks []string
		want   []string
	}{
		{"nothing", nil, nil},
		{"one line", []string{"a\n"}, []string{"a\n"}},
		{"two in a chunk", []string{"a\nb\n"}, []string{"a\n", "b\n"}},
		{"line in pieces", []string{"a", "b", "c\nd"}, []string{"abc\n", "d"}},
		{"empty lines", []string{"\n\n"}, []string{"\n", "\n"}},
		{"exactly the limit", []string{long + "\n"}, []string{long, "\n"}},
		{"over the limit", []string{long + "yz\n"}, []string{long, "yz\n"}},
		{"over the limit in pieces", []string{long[:100], long, "\n"}, []string{long, long[:100] + "\n"}},
		{"character at the limit", []string{long[:maxLine-1] + "ä\n"}, []string{long[:maxLine-1], "ä\n"}},
		{"controls and quotes", []string{"\"\\\t\r\x00\x1b\x7f</a>\n"}, []string{"\"\\\t\r\x00\x1b\x7f</a>\n"}},
		{"not UTF-8", []string{"a\xff\xc3(b\n"}, []string{"a\ufffd\ufffd(b\n"}},
		{"beyond the basic plane", []string{"\U0001f4e6\n"}, []string{"\U0001f4e6\n"}},
	} {
		got := written(t, c.chunks...)
		if strings.Join(got, "|") != strings.Join(c.want, "|") || len(got) != len(c.want) {
			t.Errorf("%s: got %.200q, want %.200q", c.name, got, c.want)
		}
	}
}

// Bytes without a line break must not collect in memory.
func TestLogWithoutLineBreaksIsBounded(t *testing.T) {
	l, err := openLog(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	s := l.stream("stdout")
	chunk := bytes.Repeat([]byte{0x80}, copyChunk) // no character starts here either
	for range 100 {
		s.write(chunk, time.Now())
		if len(s.part) >= maxLine {
			t.Fatalf("%d bytes kept", len(s.part))
		}
	}
	if err := l.close(); err != nil {
		t.Error(err)
	}
}

func FuzzLog(f *testing.F) {
	f.Add("a\nb", 1)
	f.Add("\xff\xc3\n", 2)
	f.Fuzz(func(t *testing.T, text string, cut int) {
		if cut < 0 || cut > len(text) {
			cut = len(text)
		}
		got := strings.Join(written(t, text[:cut], text[cut:]), "")
		if strings.Count(got, "\n") != strings.Count(text, "\n") || utf8.ValidString(text) && got != text {
			t.Errorf("%q came back as %q", text, got)
		}
	})
}

func BenchmarkLog(b *testing.B) {
	l, err := openLog(os.DevNull)
	if err != nil {
		b.Fatal(err)
	}
	s := l.stream("stdout")
	chunk := bytes.Repeat([]byte("a line of sixty characters, as programs print them all day\n"), 500)
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		s.write(chunk, time.Now())
	}
}
