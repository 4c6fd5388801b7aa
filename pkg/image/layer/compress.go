package layer

import (
	"fmt"
	"io"

	"github.com/klauspost/pgzip"
)

// Compress returns a writer that gzips what is written to it into w, on all
// processors. Equal input gives equal output, however many processors there
// are: blocks have a fixed size, and the header names neither file nor time.
// Close must be called and its error checked.
func Compress(w io.Writer) (io.WriteCloser, error) {
	gz, err := pgzip.NewWriterLevel(w, pgzip.DefaultCompression)
	if err != nil {
		return nil, fmt.Errorf("compress layer: %w", err)
	}
	if err := gz.SetConcurrency(1<<20, 4); err != nil {
		return nil, fmt.Errorf("compress layer: %w", err)
	}
	return gz, nil
}
