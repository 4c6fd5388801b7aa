package vm

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"
)

// PortName is the name under which the guest finds the port to the host, below
// /sys/class/virtio-ports/*/name.
const PortName = "box.test.vm"

// Kind says what a frame carries.
type Kind byte

// The frames. One port carries all of them, because a virtio port can be opened
// once only, and because closing one drops what is still on its way: an end has to
// be said.
const (
	// Stdin goes to the guest: input of the command, empty at its end.
	Stdin Kind = 'i'
	// Quit goes to the guest: the command shall get SIGQUIT, which makes a Go program
	// write its goroutines and end.
	Quit Kind = 'q'
	// Stdout and Stderr come from the guest: output of the command.
	Stdout Kind = 'o'
	Stderr Kind = 'e'
	// Status comes from the guest, once and last: the decimal exit status.
	Status Kind = 's'
	// Trouble comes from the guest instead of Status if the machine could not be
	// set up: one sentence.
	Trouble Kind = 't'
)

// maxFrame bounds the length that a reader believes; writers cut before it.
const maxFrame = 1 << 20

// Frame is one message on the port: a byte for the kind, the length as four bytes
// (big endian), the payload.
type Frame struct {
	Kind Kind
	Data []byte
}

// ReadFrame reads one frame from r. The error is io.EOF only if r ends between
// two frames.
func ReadFrame(r io.Reader) (Frame, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return Frame{}, err
	}
	length := binary.BigEndian.Uint32(head[1:])
	if length > maxFrame {
		return Frame{}, fmt.Errorf("read frame %q: %d bytes, more than %d", head[0], length, maxFrame)
	}
	f := Frame{Kind: Kind(head[0]), Data: make([]byte, length)}
	if _, err := io.ReadFull(r, f.Data); err != nil {
		return Frame{}, fmt.Errorf("read frame %q: %w", head[0], io.ErrUnexpectedEOF)
	}
	return f, nil
}

// FrameWriter writes frames; its methods may be called from several goroutines.
type FrameWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// NewFrameWriter returns a writer of frames to w.
func NewFrameWriter(w io.Writer) *FrameWriter { return &FrameWriter{w: w} }

// Write writes data as one frame, or as several if it is long.
func (fw *FrameWriter) Write(kind Kind, data []byte) error {
	fw.mu.Lock()
	defer fw.mu.Unlock()
	for {
		part := data[:min(len(data), maxFrame)]
		data = data[len(part):]
		frame := binary.BigEndian.AppendUint32([]byte{byte(kind)}, uint32(len(part)))
		if _, err := fw.w.Write(append(frame, part...)); err != nil {
			return fmt.Errorf("write frame %q: %w", kind, err)
		}
		if len(data) == 0 {
			return nil
		}
	}
}

// Copy sends everything that comes from r as frames of one kind.
func (fw *FrameWriter) Copy(kind Kind, r io.Reader) error {
	buffer := make([]byte, 32<<10)
	for {
		n, err := r.Read(buffer)
		if n > 0 {
			if err := fw.Write(kind, buffer[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
