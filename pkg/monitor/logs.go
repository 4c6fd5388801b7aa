package monitor

import (
	"fmt"
	"os"
	"sync"
	"time"
	"unicode/utf8"
)

// maxLine is the longest piece of a line that is written as one entry, in
// bytes: Docker's. A longer line becomes several entries, of which only the
// last ends with a line break.
const maxLine = 16 << 10

// logFile writes Docker's json-file format, one entry a line:
//
//	{"log":"text\n","stream":"stdout","time":"2006-01-02T15:04:05.999999999Z"}
//
// As in Docker, a line is written when it is complete, and bytes that are not
// UTF-8 become U+FFFD: JSON has no other way.
type logFile struct {
	mu      sync.Mutex
	f       *os.File
	buf     []byte
	written error // the first failure: a full disk must not stop the container
}

func openLog(path string) (*logFile, error) {
	// O_NOFOLLOW: the directory is ours, and nothing in it is a link.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return &logFile{f: f}, nil
}

func (l *logFile) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Close()
}

// logStream is one of the two streams of a container on the way to the log.
type logStream struct {
	log  *logFile
	name string
	part []byte // the begin of a line that has no end yet
}

func (l *logFile) stream(name string) *logStream { return &logStream{log: l, name: name} }

// write takes a chunk of output: complete lines go to the file in one write.
func (s *logStream) write(data []byte, at time.Time) {
	l := s.log
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = l.buf[:0]
	stamp := at.UTC().Format(time.RFC3339Nano)
	for len(data) > 0 {
		var line []byte
		line, data = s.next(data)
		if line != nil {
			l.buf = appendEntry(l.buf, line, s.name, stamp)
		}
	}
	l.flush()
}

// next cuts one entry from data, or keeps the rest for later and returns nil.
func (s *logStream) next(data []byte) (entry, rest []byte) {
	end := len(data)
	for i, c := range data {
		if c == '\n' {
			end = i + 1
			break
		}
	}
	room := maxLine - len(s.part)
	switch {
	case end > room:
		end = max(cutRune(s.part, data[:room]), 0)
	case data[end-1] != '\n' && end < room:
		s.part = append(s.part, data...)
		return nil, nil
	}
	if len(s.part) == 0 {
		return data[:end], data[end:]
	}
	entry = append(s.part, data[:end]...)
	s.part = nil
	return entry, data[end:]
}

// cutRune shortens data so that it does not end within a character. A piece
// that holds no whole character is not text, and stays as long as it is.
func cutRune(part, data []byte) int {
	for back := 1; back <= min(utf8.UTFMax, len(data)); back++ {
		if c := data[len(data)-back]; utf8.RuneStart(c) {
			if utf8.FullRune(data[len(data)-back:]) || len(part)+len(data)-back == 0 {
				return len(data)
			}
			return len(data) - back
		}
	}
	return len(data)
}

// flush writes what is left of an unfinished line at the end of the stream.
func (s *logStream) flush(at time.Time) {
	if len(s.part) == 0 {
		return
	}
	l := s.log
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = appendEntry(l.buf[:0], s.part, s.name, at.UTC().Format(time.RFC3339Nano))
	s.part = nil
	l.flush()
}

func (l *logFile) flush() {
	if len(l.buf) == 0 {
		return
	}
	if _, err := l.f.Write(l.buf); err != nil && l.written == nil {
		l.written = err
	}
}

func appendEntry(b, line []byte, stream, stamp string) []byte {
	b = append(b, `{"log":"`...)
	b = appendText(b, line)
	b = append(b, `","stream":"`...)
	b = append(b, stream...)
	b = append(b, `","time":"`...)
	b = append(b, stamp...)
	return append(b, "\"}\n"...)
}

const hexDigits = "0123456789abcdef"

// appendText escapes as RFC 8259, section 7, demands, runs of plain bytes at
// once.
func appendText(b, text []byte) []byte {
	start := 0
	for i := 0; i < len(text); {
		c := text[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		size := 1
		if c >= utf8.RuneSelf {
			var r rune
			if r, size = utf8.DecodeRune(text[i:]); r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
		}
		b = append(b, text[start:i]...)
		b = appendEscape(b, c)
		i += size
		start = i
	}
	return append(b, text[start:]...)
}

func appendEscape(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\n':
		return append(b, '\\', 'n')
	case '\r':
		return append(b, '\\', 'r')
	case '\t':
		return append(b, '\\', 't')
	}
	if c >= utf8.RuneSelf {
		return append(b, `\ufffd`...)
	}
	return append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}
