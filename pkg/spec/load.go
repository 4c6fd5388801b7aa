package spec

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/internal/strictjson"
)

// ConfigFile is the name of the configuration inside a bundle.
const ConfigFile = "config.json"

// maxConfig bounds the configuration in bytes. The largest seen in the wild are
// those of privileged containers with thousands of mounts, below 2 MiB.
const maxConfig = 32 << 20

// Load reads, decodes and validates the configuration of a bundle.
func Load(bundle string) (*specs.Spec, error) {
	text, err := Read(bundle)
	if err != nil {
		return nil, err
	}
	return Parse(bundle, text)
}

// Read reads the configuration of a bundle as it is now: the file may be another one soon.
func Read(bundle string) (text []byte, err error) {
	return readConfig(filepath.Join(bundle, ConfigFile))
}

// Parse decodes and validates what Read has read.
func Parse(bundle string, text []byte) (*specs.Spec, error) {
	name := filepath.Join(bundle, ConfigFile)
	s, err := Decode(name, text)
	if err != nil {
		return nil, err
	}
	if err := Validate(s); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

// Foresee decodes linux.namespaces of a configuration and nothing else, for who wants to
// begin with them before Parse has said that all is well. It stops there: what comes behind,
// a seccomp profile mostly, is longer than all before it. Of a text that is not as it should
// be it may return anything.
func Foresee(text []byte) (list []specs.LinuxNamespace) {
	namespaces := func(d *strictjson.Decoder, list *[]specs.LinuxNamespace) {
		strictjson.List(d, list, decodeLinuxNamespace)
	}
	_ = strictjson.Decode("", text, &list, member("linux", member("namespaces", namespaces))) // that it stops early is an error
	return list
}

// member reads one member of an object, skips those before it and leaves those behind it.
func member[T any](name string, read func(*strictjson.Decoder, *T)) func(*strictjson.Decoder, *T) {
	return func(d *strictjson.Decoder, v *T) {
		for k, ok := d.Begin(); ok; k, ok = d.Next() {
			if k == name {
				read(d, v)
				return
			}
			d.Unknown(k)
		}
	}
}

// LoadProcess reads, decodes and validates a process description, the argument
// of `exec --process`. The name - stands for standard input.
func LoadProcess(name string) (*specs.Process, error) {
	data, err := readConfig(name)
	if err != nil {
		return nil, err
	}
	p, err := DecodeProcess(name, data)
	if err != nil {
		return nil, err
	}
	if err := ValidateProcess(p); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return p, nil
}

// LoadResources reads and decodes limits, the argument of `update --resources`. The
// name - stands for standard input.
func LoadResources(name string) (*specs.LinuxResources, error) {
	data, err := readConfig(name)
	if err != nil {
		return nil, err
	}
	return DecodeResources(name, data)
}

// Decode reads a configuration without validating it. The name is that of the
// text in messages.
func Decode(name string, data []byte) (*specs.Spec, error) {
	return decodeText(name, data, decodeSpec)
}

// DecodeProcess reads a process description without validating it.
func DecodeProcess(name string, data []byte) (*specs.Process, error) {
	return decodeText(name, data, decodeProcess)
}

// DecodeResources reads limits in the form of linux.resources.
func DecodeResources(name string, data []byte) (*specs.LinuxResources, error) {
	return decodeText(name, data, decodeLinuxResources)
}

// decodeText reads one value that fills a whole text.
func decodeText[T any](name string, data []byte, read func(*strictjson.Decoder, *T)) (*T, error) {
	v := new(T)
	if err := strictjson.Decode(name, data, v, read); err != nil {
		return nil, err
	}
	return v, nil
}

// foreign refuses a section that is meant for another platform.
func foreign(d *strictjson.Decoder) {
	if !d.Null() {
		d.Fail(errdefs.ErrUnsupported, otherOS)
	}
}

// readConfig reads a file that must be small. It may be a pipe: exec gets its
// process as /dev/fd/N.
func readConfig(name string) ([]byte, error) {
	f, err := open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// One read is enough for a regular file of known size.
	size := 512
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		size = int(min(info.Size(), maxConfig)) + 1
	}
	data := make([]byte, 0, size)
	for len(data) <= maxConfig {
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
		n, err := f.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		if errors.Is(err, io.EOF) {
			return data, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, errdefs.New(errdefs.ErrInvalid, "read %s: larger than %d MiB", name, maxConfig>>20)
}

// open opens a file for reading, through a bare descriptor: os.Open would start
// the runtime's poller for a file that is read once.
func open(name string) (*os.File, error) {
	var fd int
	var err error
	if name == "-" {
		// A copy, so that closing it does not close standard input.
		fd, err = unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 3)
	} else {
		fd, err = unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}
