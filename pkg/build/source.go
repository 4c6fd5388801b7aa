package build

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"box/internal/errdefs"
	"box/internal/sys"
	"box/pkg/build/dockerfile"
	"box/pkg/image"

	"github.com/moby/patternmatcher/ignorefile"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// check refuses a request that could only fail in the end.
func (r Request) check() error {
	for _, tag := range r.Tags {
		ref, err := image.ParseReference(tag)
		if err != nil {
			return fmt.Errorf("tag %s: %w", tag, err)
		}
		if ref.Digest != "" {
			return errdefs.New(errdefs.ErrInvalid, "tag %s: a name for an image has no digest", tag)
		}
	}
	switch r.Network {
	case "", "default", "none", "host":
		return nil
	}
	return errdefs.New(errdefs.ErrInvalid, "network %s: a build knows default, none and host", r.Network)
}

// open opens the context and parses the Dockerfile.
func (r Request) open() (*source, error) {
	s := &source{}
	if err := s.openContext(r.Context); err != nil {
		return nil, err
	}
	if err := s.read(r); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// openContext opens the directory that everything else is found in by descriptor.
func (s *source) openContext(dir string) error {
	if dir == "" {
		s.key = digest.FromString("no context")
		return nil
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	s.key = digest.FromString("context " + abs)
	f, err := os.OpenFile(abs, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOTDIR):
		return errdefs.New(errdefs.ErrInvalid, "build context %s: not a directory", dir)
	case err != nil:
		return errdefs.New(errdefs.ErrNotFound, "build context %s: %w", dir, bareCause(err))
	}
	s.dir = f
	return nil
}

// bareCause drops the path of a path error, where it stands before already.
func bareCause(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// read reads Dockerfile and ignore file.
func (s *source) read(r Request) error {
	name, text, err := s.dockerfile(r)
	if err != nil {
		return err
	}
	if s.file, err = dockerfile.Parse(name, text); err != nil {
		return err
	}
	// Another Dockerfile of the same context has steps of its own.
	s.key = digest.FromString(s.key.String() + " " + name)
	return s.readIgnore(r)
}

// dockerfile gives the name for errors and the text. The default one is looked
// up inside the context: if it is a link it must not lead out (CVE-2022-4122).
func (s *source) dockerfile(r Request) (string, []byte, error) {
	switch {
	case r.Text != nil:
		return "Dockerfile", r.Text, nil
	case r.Dockerfile != "":
		text, err := readRegular(r.Dockerfile, nil)
		return r.Dockerfile, text, notFound(err, r.Dockerfile)
	case s.dir == nil:
		return "", nil, errdefs.New(errdefs.ErrInvalid, "neither a Dockerfile nor a context is given")
	}
	for _, name := range []string{"Dockerfile", "dockerfile"} {
		text, err := readRegular(name, s.dir)
		if !errors.Is(err, os.ErrNotExist) {
			return name, text, err
		}
	}
	return "", nil, errdefs.WithHint(
		errdefs.New(errdefs.ErrNotFound, "no Dockerfile in %s", s.dir.Name()),
		"create one, or name another file with -f")
}

func notFound(err error, name string) error {
	if errors.Is(err, os.ErrNotExist) {
		return errdefs.New(errdefs.ErrNotFound, "Dockerfile %s: no such file", name)
	}
	return err
}

// readRegular reads a regular file of moderate size, below root if that is not
// nil. A fifo or a device would hang the build or worse.
func readRegular(name string, root *os.File) ([]byte, error) {
	var f *os.File
	var err error
	const flags = unix.O_RDONLY | unix.O_NONBLOCK
	if root != nil {
		f, err = sys.OpenInRoot(root, name, flags, 0)
	} else {
		f, err = os.OpenFile(name, flags, 0)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errdefs.New(errdefs.ErrInvalid, "read %s: not a regular file", name)
	}
	text, err := io.ReadAll(io.LimitReader(f, dockerfile.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return text, nil
}

// readIgnore reads the patterns: of <Dockerfile>.dockerignore beside the
// Dockerfile if there is one, else of .dockerignore in the context.
func (s *source) readIgnore(r Request) error {
	if s.dir == nil {
		return nil
	}
	text, err := []byte(nil), os.ErrNotExist
	if r.Text == nil && r.Dockerfile != "" {
		text, err = readRegular(r.Dockerfile+".dockerignore", nil)
	} else if r.Text == nil {
		text, err = readRegular(s.file.Name+".dockerignore", s.dir)
	}
	if errors.Is(err, os.ErrNotExist) {
		text, err = readRegular(".dockerignore", s.dir)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	s.ignore, err = parseIgnore(text)
	return err
}

// Limits of an ignore file, in bytes: what a context is matched with costs time
// for each of its files.
const (
	maxIgnore     = 1 << 20
	maxIgnoreLine = 16 << 10
)

// parseIgnore reads patterns. Directories of any number, several times in a row,
// are the same as once, but cost the matcher a power more.
func parseIgnore(text []byte) ([]string, error) {
	if len(text) > maxIgnore {
		return nil, errdefs.New(errdefs.ErrInvalid, ".dockerignore: it is longer than %d bytes", maxIgnore)
	}
	for i, line := range bytes.Split(text, []byte("\n")) {
		if len(line) > maxIgnoreLine {
			return nil, errdefs.New(errdefs.ErrInvalid, ".dockerignore:%d: line is longer than %d bytes", i+1, maxIgnoreLine)
		}
	}
	patterns, err := ignorefile.ReadAll(bytes.NewReader(text))
	if err != nil {
		return nil, errdefs.New(errdefs.ErrInvalid, ".dockerignore: %w", err)
	}
	const twice, once = "**/**/", "**/"
	for i := range patterns {
		for strings.Contains(patterns[i], twice) {
			patterns[i] = strings.ReplaceAll(patterns[i], twice, once)
		}
	}
	return patterns, nil
}
