package volume

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/internal/sys"
	"box/pkg/record"
)

// Spec is one wanted volume.
type Spec struct {
	Source      string // host path, volume name, or empty for an anonymous volume
	Destination string // absolute and clean, never "/"
	ReadOnly    bool
	NoCopy      bool   // do not fill a new volume with what the image has there
	Propagation string // of a mount(8) option: rslave, shared …; empty for none
}

// isPath tells a host path from a volume name, as Docker's command line does.
func (v Spec) isPath() bool {
	return strings.HasPrefix(v.Source, "/") || strings.HasPrefix(v.Source, ".")
}

// Parse reads a -v argument: [source:]destination[:options].
func Parse(arg string) (Spec, error) {
	var v Spec
	parts := strings.Split(arg, ":")
	switch len(parts) {
	case 1:
		v.Destination = parts[0]
	case 2:
		v.Source, v.Destination = parts[0], parts[1]
	case 3:
		v.Source, v.Destination = parts[0], parts[1]
		if err := v.options(parts[2]); err != nil {
			return v, fmt.Errorf("volume %q: %w", arg, err)
		}
	default:
		return v, errdefs.New(errdefs.ErrInvalid, "volume %q: want [SOURCE:]DESTINATION[:OPTIONS]", arg)
	}
	if len(parts) > 1 && v.Source == "" {
		return v, errdefs.New(errdefs.ErrInvalid, "volume %q: empty source", arg)
	}
	dst, err := cleanDestination(v.Destination)
	if err != nil {
		return v, fmt.Errorf("volume %q: %w", arg, err)
	}
	v.Destination = dst
	if v.Source != "" && !v.isPath() {
		err = checkName(v.Source)
	}
	return v, err
}

// options reads the third part. What is not carried out is refused.
func (v *Spec) options(list string) error {
	for _, o := range strings.Split(list, ",") {
		switch o {
		case "ro":
			v.ReadOnly = true
		case "rw", "":
		case "nocopy":
			v.NoCopy = true
		case "private", "rprivate", "shared", "rshared", "slave", "rslave":
			v.Propagation = o
		case "z", "Z":
			// Without SELinux there are no labels to change.
			if _, err := os.Stat("/sys/fs/selinux/enforce"); err == nil {
				return errdefs.New(errdefs.ErrUnsupported, "option %s (SELinux label) is not supported", o)
			}
		default:
			return errdefs.New(errdefs.ErrUnsupported, "option %q is not supported", o)
		}
	}
	return nil
}

func cleanDestination(dst string) (string, error) {
	if !strings.HasPrefix(dst, "/") {
		return "", errdefs.New(errdefs.ErrInvalid, "destination %q is not an absolute path", dst)
	}
	if dst = path.Clean(dst); dst == "/" {
		return "", errdefs.New(errdefs.ErrInvalid, "destination cannot be /")
	}
	return dst, nil
}

// checkName keeps names inside the volumes directory.
func checkName(name string) error {
	if record.CheckName(name) != nil {
		return errdefs.New(errdefs.ErrInvalid, "invalid volume name %q: use letters, digits and _ . - or, for a directory of the host, a path that starts with /", name)
	}
	return nil
}

// maxOfImage bounds the volumes that an image may ask for. Each is a directory and a
// mount; an image's configuration has room for half a million, and twenty thousand
// already take minutes.
const maxOfImage = 1000

// Wanted joins the user's volumes (-v arguments) with those of the image (keys
// of its VOLUMEs) for whose destination the user has none. The image is hostile
// (CVE-2022-23648): its paths are taken as inside its root whatever they say.
func Wanted(args []string, ofImage map[string]struct{}) ([]Spec, error) {
	var all []Spec
	seen := map[string]bool{}
	for _, arg := range args {
		v, err := Parse(arg)
		if err != nil {
			return nil, err
		}
		if seen[v.Destination] {
			return nil, errdefs.New(errdefs.ErrInvalid, "duplicate mount point: %s", v.Destination)
		}
		seen[v.Destination] = true
		all = append(all, v)
	}
	if len(ofImage) > maxOfImage {
		return nil, errdefs.New(errdefs.ErrInvalid, "the image wants %d volumes: at most %d are made", len(ofImage), maxOfImage)
	}
	// Sorted: the order of a map must not decide anything.
	for _, dst := range slices.Sorted(maps.Keys(ofImage)) {
		clean, err := cleanDestination(path.Join("/", dst))
		if err != nil {
			return nil, fmt.Errorf("volume %q of the image: %w", dst, err)
		}
		if !seen[clean] {
			seen[clean] = true
			all = append(all, Spec{Destination: clean})
		}
	}
	return all, nil
}

// Mount decides where the volume lies, without touching anything. dir gives the
// directory of a named volume. Every call names an anonymous volume anew.
func (v Spec) Mount(dir func(name string) string) (record.Mount, error) {
	m := record.Mount{Type: typeVolume, Destination: v.Destination, ReadOnly: v.ReadOnly, Propagation: v.Propagation}
	switch {
	case v.isPath():
		abs, err := filepath.Abs(v.Source)
		if err != nil {
			return m, fmt.Errorf("volume %s: %w", v.Source, err)
		}
		m.Type, m.Source = typeBind, abs
		return m, nil
	case v.Source == "":
		m.Name, m.Anonymous = record.NewID(), true
	default:
		m.Name = v.Source
	}
	m.Source = dir(m.Name)
	return m, nil
}

// Types of mounts, as `inspect` shows them.
const (
	typeVolume = "volume" // a directory of box's
	typeBind   = "bind"   // a path of the host
)

// Make makes what m, which Mount has decided on, mounts. root is the image's
// tree, from which a new volume is filled.
func (v Spec) Make(m record.Mount, root *os.File) error {
	if m.Type == typeBind {
		return makeHostPath(m.Source)
	}
	return fill(m.Source, root, v)
}

// makeHostPath makes a missing host directory, as Docker's -v does.
func makeHostPath(path string) error {
	_, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		err = os.MkdirAll(path, 0o755)
	}
	if err != nil {
		return fmt.Errorf("volume %s: %w", path, err)
	}
	return nil
}

// fill makes the volume's directory, and when the volume is new or empty copies
// what the image has at the destination into it.
func fill(dir string, root *os.File, v Spec) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make volume: %w", err)
	}
	dst, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open volume: %w", err)
	}
	defer dst.Close()
	if names, _ := dst.Readdirnames(1); len(names) > 0 || v.NoCopy {
		return nil // copy-up never overwrites (CVE-2020-1726)
	}
	src, err := sys.OpenInRoot(root, v.Destination, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil // nothing there to copy
	}
	if err != nil {
		return fmt.Errorf("look at %s in the image: %w", v.Destination, err)
	}
	defer src.Close()
	if err := copyTree(src, dst); err != nil {
		return fmt.Errorf("fill volume for %s: %w", v.Destination, err)
	}
	return nil
}
