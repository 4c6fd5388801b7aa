package engine

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/internal/sys"
	"box/pkg/record"
)

// LogOptions select what Logs prints. The zero value prints everything that is
// there.
type LogOptions struct {
	Follow     bool      // go on until the container ends
	Tail       *int      // only the last so many entries; nil for all
	Since      time.Time // not before; zero for no limit
	Until      time.Time // not after; zero for no limit
	Timestamps bool      // put the time before each line
}

// Logs writes the container's output to stdout and stderr; either may be nil.
func (e *Engine) Logs(ctx context.Context, nameOrID string, o LogOptions, stdout, stderr io.Writer) error {
	r, err := e.find(ctx, nameOrID)
	if err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(e.records.Dir(r.ID), record.LogFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil // never started
	}
	if err != nil {
		return fmt.Errorf("open log of container %s: %w", r.Name, err)
	}
	defer f.Close()
	p := &logPrinter{options: o, stdout: stdout, stderr: stderr}
	if o.Tail != nil {
		if err := seekTail(f, *o.Tail); err != nil {
			return fmt.Errorf("read log of container %s: %w", r.Name, err)
		}
	}
	if o.Follow && r.State.Status == record.Running {
		err = e.follow(ctx, r, f, p)
	} else {
		err = p.copy(f)
	}
	if errors.Is(err, errUntil) {
		return nil
	}
	return err
}

// seekTail puts f before its last n lines, reading backwards.
func seekTail(f *os.File, n int) error {
	pos, err := f.Seek(0, io.SeekEnd)
	if err != nil || n <= 0 {
		return err
	}
	buf := make([]byte, 64<<10)
	lines := -1 // the line break at the very end ends the last line
	for pos > 0 {
		size := min(int64(len(buf)), pos)
		pos -= size
		if _, err := f.ReadAt(buf[:size], pos); err != nil {
			return err
		}
		for i := size - 1; i >= 0; i-- {
			if buf[i] != '\n' {
				continue
			}
			if lines++; lines == n {
				_, err := f.Seek(pos+i+1, io.SeekStart)
				return err
			}
		}
	}
	_, err = f.Seek(0, io.SeekStart)
	return err
}

// follow prints until the monitor says that the container is over. The kernel
// tells when the file has grown.
func (e *Engine) follow(ctx context.Context, r *record.Record, f *os.File, p *logPrinter) error {
	// The file itself, whatever its name stands for by now.
	grown, err := sys.Watch(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.IN_MODIFY)
	if err != nil {
		return fmt.Errorf("follow log of container %s: %w", r.Name, err)
	}
	defer grown.Close()
	over := make(chan struct{})
	go func() {
		defer close(over)
		_, _ = e.waitFor(ctx, r) // however it ends, the log has ended too
		_ = grown.SetReadDeadline(time.Now())
	}()
	events := make([]byte, 64*sys.WatchBuffer)
	for {
		if err := p.copy(f); err != nil {
			return err
		}
		if _, err := grown.Read(events); err != nil {
			break
		}
	}
	<-over
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return p.copy(f) // what was written between the last read and the end
}

// logEntry is one line of the log file.
type logEntry struct {
	Log    string    `json:"log"`
	Stream string    `json:"stream"`
	Time   time.Time `json:"time"`
}

// logPrinter writes entries out. It keeps an entry that is not complete yet
// for the next call of copy.
type logPrinter struct {
	options        LogOptions
	stdout, stderr io.Writer
	rest           []byte
	midLine        map[string]bool // per stream: the last entry had no line break
}

// errUntil ends the printing at the first entry after Until: the log is in the
// order of time.
var errUntil = errors.New("end of the wanted time")

// copy prints what f has from its position on.
func (p *logPrinter) copy(f io.Reader) error {
	in := bufio.NewReaderSize(f, 64<<10)
	for {
		line, err := in.ReadBytes('\n')
		if len(p.rest) > 0 {
			line = append(p.rest, line...)
			p.rest = nil
		}
		if errors.Is(err, io.EOF) {
			p.rest = bytes.Clone(line)
			return nil
		}
		if err != nil {
			return fmt.Errorf("read log: %w", err)
		}
		if err := p.print(line); err != nil {
			return err
		}
	}
}

func (p *logPrinter) print(line []byte) error {
	var entry logEntry
	if err := json.Unmarshal(line, &entry); err != nil {
		return errdefs.New(errdefs.ErrCorrupt, "read log entry %.80q: %w", line, err)
	}
	if entry.Time.Before(p.options.Since) {
		return nil
	}
	if !p.options.Until.IsZero() && entry.Time.After(p.options.Until) {
		return errUntil
	}
	w := p.stdout
	if entry.Stream == "stderr" {
		w = p.stderr
	}
	if w == nil {
		return nil
	}
	text := entry.Log
	if p.options.Timestamps && !p.midLine[entry.Stream] {
		text = entry.Time.UTC().Format(timestampFormat) + " " + text
	}
	if p.midLine == nil {
		p.midLine = map[string]bool{}
	}
	p.midLine[entry.Stream] = len(entry.Log) == 0 || entry.Log[len(entry.Log)-1] != '\n'
	_, err := io.WriteString(w, text)
	return err
}

// timestampFormat is RFC 3339 with nine digits always, so that lines align.
const timestampFormat = "2006-01-02T15:04:05.000000000Z07:00"
