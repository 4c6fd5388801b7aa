package layer

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"box/internal/errdefs"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// chunk is the size of reads and writes between the stages of unpacking, in
// bytes: large enough that switching between them does not count.
const chunk = 256 << 10

// maxWindow bounds the memory that a zstd stream may ask for: 128 MiB is what
// "zstd --long" makes; a frame may ask for terabytes (RFC 8878, 3.1.1.1.2).
const maxWindow = 128 << 20

// Decompress detects how a layer is compressed (gzip, zstd or not at all) by its
// first bytes and returns the tar stream. The declared media type is not asked:
// what is unpacked is checked against the diffID in any case. Damaged input
// gives errdefs.ErrCorrupt, input that inflates to more than SizeLimit allows
// errdefs.ErrInvalid. Inflating runs beside the reader, one chunk ahead; Close
// stops it and must be called. It does not close r.
func Decompress(r io.Reader) (io.ReadCloser, error) {
	src := &source{r: r}
	buf := bufio.NewReaderSize(src, 64<<10)
	magic, err := buf.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, src.classify(err)
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		gz, err := gzip.NewReader(buf)
		if err != nil {
			return nil, src.classify(err)
		}
		return readAhead(gz, src, func() {}), nil
	case isZstd(magic):
		dec, err := zstd.NewReader(buf, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, src.classify(err)
		}
		return readAhead(dec, src, dec.Close), nil
	case bytes.HasPrefix(magic, []byte("BZh")):
		return nil, errdefs.New(errdefs.ErrUnsupported, "archive is compressed by bzip2; gzip and zstd can be read")
	case bytes.HasPrefix(magic, []byte("\xfd7zXZ\x00")):
		return nil, errdefs.New(errdefs.ErrUnsupported, "archive is compressed by xz; gzip and zstd can be read")
	}
	return io.NopCloser(buf), nil
}

// isZstd knows the two kinds of zstd frames (RFC 8878, 3.1.1 and 3.1.2).
func isZstd(magic []byte) bool {
	if len(magic) < 4 {
		return false
	}
	skippable := magic[0]&0xf0 == 0x50 && bytes.Equal(magic[1:4], []byte{0x2a, 0x4d, 0x18})
	return skippable || bytes.Equal(magic[:4], []byte{0x28, 0xb5, 0x2f, 0xfd})
}

// source remembers why reading failed, so that a broken connection is told from
// broken content.
type source struct {
	r   io.Reader
	n   int64 // bytes read
	err error
}

// Read reads on and remembers the error.
func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// classify turns the error of a decoder into the one to report.
func (s *source) classify(err error) error {
	switch {
	case s.err != nil:
		return s.err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errdefs.New(errdefs.ErrCorrupt, "compressed data ends too early")
	}
	return errdefs.New(errdefs.ErrCorrupt, "decompress: %w", err)
}

// ahead is the reading end of readAhead.
type ahead struct {
	*bufio.Reader
	pipe *io.PipeReader
	done chan struct{}
}

// readAhead runs a decoder in a goroutine of its own. The pipe hands over one
// chunk at a time and the buffer behind it frees the decoder at once, so both
// sides work at the same time on different chunks.
func readAhead(dec io.Reader, src *source, stop func()) io.ReadCloser {
	pr, pw := io.Pipe()
	a := &ahead{Reader: bufio.NewReaderSize(pr, chunk), pipe: pr, done: make(chan struct{})}
	go func() {
		defer close(a.done)
		defer stop()
		out := &inflated{dec: dec, src: src}
		// The wrapper hides ReadFrom, which uses smaller pieces.
		_, err := io.CopyBuffer(struct{ io.Writer }{pw}, out, make([]byte, chunk))
		if err != nil && !errors.Is(err, io.ErrClosedPipe) {
			err = src.classify(err)
		}
		pw.CloseWithError(err) // nil is end of file
	}()
	return a
}

// inflated bounds what a decoder makes of its source by what it has read of it. The
// size that somebody has promised is no bound: it is written in the same hand.
type inflated struct {
	dec io.Reader
	src *source
	n   int64
}

// Read reads on.
func (f *inflated) Read(p []byte) (int, error) {
	n, err := f.dec.Read(p)
	f.n += int64(n)
	if f.n > SizeLimit(f.src.n) {
		f.src.err = errdefs.New(errdefs.ErrInvalid, "compressed data of %d bytes inflates to more than %d: refused as a decompression bomb", f.src.n, f.n)
		return 0, f.src.err
	}
	return n, err
}

// Close stops the decoder and waits for it: after that nobody reads the source.
func (a *ahead) Close() error {
	err := a.pipe.Close()
	<-a.done
	return err
}
