package engine

import (
	"errors"
	"fmt"
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

// volumeSpec is one -v argument, taken apart.
type volumeSpec struct {
	source      string // host path, volume name, or empty for an anonymous volume
	destination string
	readOnly    bool
	noCopy      bool
	propagation string
}

// isPath tells a host path from a volume name, as Docker's command line does.
func (v volumeSpec) isPath() bool {
	return strings.HasPrefix(v.source, "/") || strings.HasPrefix(v.source, ".")
}

// parseVolume reads [source:]destination[:options].
func parseVolume(arg string) (volumeSpec, error) {
	var v volumeSpec
	parts := strings.Split(arg, ":")
	switch len(parts) {
	case 1:
		v.destination = parts[0]
	case 2:
		v.source, v.destination = parts[0], parts[1]
	case 3:
		v.source, v.destination = parts[0], parts[1]
		if err := v.options(parts[2]); err != nil {
			return v, fmt.Errorf("volume %q: %w", arg, err)
		}
	default:
		return v, errdefs.New(errdefs.ErrInvalid, "volume %q: want [SOURCE:]DESTINATION[:OPTIONS]", arg)
	}
	if len(parts) > 1 && v.source == "" {
		return v, errdefs.New(errdefs.ErrInvalid, "volume %q: empty source", arg)
	}
	dst, err := cleanDestination(v.destination)
	if err != nil {
		return v, fmt.Errorf("volume %q: %w", arg, err)
	}
	v.destination = dst
	if v.source != "" && !v.isPath() {
		err = checkVolumeName(v.source)
	}
	return v, err
}

// options reads the third part. What is not carried out is refused.
func (v *volumeSpec) options(list string) error {
	for _, o := range strings.Split(list, ",") {
		switch o {
		case "ro":
			v.readOnly = true
		case "rw", "":
		case "nocopy":
			v.noCopy = true
		case "private", "rprivate", "shared", "rshared", "slave", "rslave":
			v.propagation = o
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

// checkVolumeName keeps names inside the volumes directory.
func checkVolumeName(name string) error {
	if record.CheckName(name) != nil {
		return errdefs.New(errdefs.ErrInvalid, "invalid volume name %q: use letters, digits and _ . - or, for a directory of the host, a path that starts with /", name)
	}
	return nil
}

// wantedVolumes joins the user's volumes with the image's VOLUMEs, for which
// the user has not given one. The image is hostile (CVE-2022-23648): its paths
// are taken as inside its root whatever they say.
func wantedVolumes(o CreateOptions) ([]volumeSpec, error) {
	var all []volumeSpec
	seen := map[string]bool{}
	for _, arg := range o.Volumes {
		v, err := parseVolume(arg)
		if err != nil {
			return nil, err
		}
		if seen[v.destination] {
			return nil, errdefs.New(errdefs.ErrInvalid, "duplicate mount point: %s", v.destination)
		}
		seen[v.destination] = true
		all = append(all, v)
	}
	var fromImage []string
	for dst := range o.Image.Config.Config.Volumes {
		fromImage = append(fromImage, dst)
	}
	slices.Sort(fromImage) // the order of a map must not decide anything
	for _, dst := range fromImage {
		clean, err := cleanDestination(path.Join("/", dst))
		if err != nil {
			return nil, fmt.Errorf("volume %q of the image: %w", dst, err)
		}
		if !seen[clean] {
			seen[clean] = true
			all = append(all, volumeSpec{destination: clean})
		}
	}
	return all, nil
}

// prepareVolumes makes the directories behind the container's volumes. root is
// the image's tree.
func (e *Engine) prepareVolumes(id string, root *os.File, o CreateOptions) ([]record.Mount, error) {
	wanted, err := wantedVolumes(o)
	if err != nil {
		return nil, err
	}
	mounts := make([]record.Mount, len(wanted))
	for i, v := range wanted {
		if mounts[i], err = e.mountOf(v); err != nil {
			return nil, err
		}
	}
	if err := e.records.NoteVolumes(id, mounts); err != nil {
		return nil, fmt.Errorf("note volumes: %w", err)
	}
	for i, v := range wanted {
		if mounts[i].Type == "volume" {
			err = fillVolume(mounts[i].Source, root, v)
		} else {
			err = makeHostPath(mounts[i].Source)
		}
		if err != nil {
			return mounts, err
		}
	}
	return mounts, nil
}

// mountOf decides where a volume lies, without touching anything.
func (e *Engine) mountOf(v volumeSpec) (record.Mount, error) {
	m := record.Mount{Type: "volume", Destination: v.destination, ReadOnly: v.readOnly, Propagation: v.propagation}
	switch {
	case v.isPath():
		abs, err := filepath.Abs(v.source)
		if err != nil {
			return m, fmt.Errorf("volume %s: %w", v.source, err)
		}
		m.Type, m.Source = "bind", abs
		return m, nil
	case v.source == "":
		m.Name, m.Anonymous = record.NewID(), true
	default:
		m.Name = v.source
	}
	m.Source = e.records.VolumeDir(m.Name)
	return m, nil
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

// fillVolume makes the volume's directory, and when the volume is new or empty
// copies what the image has at the destination into it.
func fillVolume(dir string, root *os.File, v volumeSpec) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make volume: %w", err)
	}
	dst, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open volume: %w", err)
	}
	defer dst.Close()
	if names, _ := dst.Readdirnames(1); len(names) > 0 || v.noCopy {
		return nil // copy-up never overwrites (CVE-2020-1726)
	}
	src, err := sys.OpenInRoot(root, v.destination, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil // nothing there to copy
	}
	if err != nil {
		return fmt.Errorf("look at %s in the image: %w", v.destination, err)
	}
	defer src.Close()
	if err := copyTree(src, dst); err != nil {
		return fmt.Errorf("fill volume for %s: %w", v.destination, err)
	}
	return nil
}
