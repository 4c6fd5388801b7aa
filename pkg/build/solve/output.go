package solve

import (
	"io"
	"os"
	"strings"
)

// tailLines and tailBytes bound what is kept of a command's output for its error.
const (
	tailLines = 12
	tailBytes = 8 << 10
)

// output reads what a command writes, passes it on and remembers its end.
type output struct {
	emit func(text string)
	tail string
	done chan struct{}
}

// newOutput starts to read from r, in a goroutine that ends with r.
func newOutput(r io.Reader, emit func(string)) *output {
	o := &output{emit: emit, done: make(chan struct{})}
	go o.read(r)
	return o
}

func (o *output) read(r io.Reader) {
	defer close(o.done)
	buf := make([]byte, 32<<10)
	kept := 0 // bytes at the start of buf that wait for the end of their line
	for {
		n, err := r.Read(buf[kept:])
		n += kept
		end := n
		if err == nil && n < len(buf) {
			end = strings.LastIndexByte(string(buf[:n]), '\n') + 1
		}
		if end > 0 {
			o.take(string(buf[:end]))
		}
		kept = copy(buf, buf[end:n])
		if err != nil {
			return
		}
	}
}

func (o *output) take(text string) {
	o.emit(text)
	o.tail += text
	if len(o.tail) > tailBytes {
		o.tail = strings.ToValidUTF8(o.tail[len(o.tail)-tailBytes:], "")
	}
}

// lastLines waits for the end of the output and gives its last lines.
func (o *output) lastLines() []string {
	<-o.done
	lines := strings.Split(strings.TrimRight(o.tail, "\n"), "\n")
	if len(lines) == 1 && lines[0] == "" {
		return nil
	}
	return lines[max(0, len(lines)-tailLines):]
}

// outputPipe gives the end that a command writes to and what reads from it.
func outputPipe(emit func(string)) (*os.File, *output, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	o := newOutput(r, emit)
	go func() {
		<-o.done
		r.Close()
	}()
	return w, o, nil
}
