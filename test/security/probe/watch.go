package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Watched is what a command did to the host, and how it ended.
type Watched struct {
	Code    int
	Output  string
	Changes []string // "made /etc/x", "changed /dev/null: …", "removed …", "mount …"
}

// watch runs commands on a host that remembers every change: an overlay over the whole
// tree, with a /dev of its own, in this process's mount namespace (which must be a new
// one). Its arguments are a directory to work in, the directories whose changes do not
// count, and the commands, each after "--".
func watch(args []string) (any, error) {
	split := slices.Index(args, "--")
	if split < 1 {
		return nil, errors.New("watch: want DIR [KEEP…] [-- COMMAND…]…")
	}
	h, err := enterCopy(args[0], args[1:split])
	if err != nil {
		return nil, err
	}
	before, err := h.look()
	if err != nil {
		return nil, err
	}
	var all []Watched
	for rest := args[split:]; len(rest) > 0; {
		n := len(rest)
		if next := slices.Index(rest[1:], "--"); next >= 0 {
			n = next + 1
		}
		w, err := run(rest[1:n])
		if err != nil {
			return nil, err
		}
		after, err := h.look()
		if err != nil {
			return nil, err
		}
		w.Changes = compare(before, after)
		all, before, rest = append(all, w), after, rest[n:]
	}
	return all, nil
}

// run runs one command. A file takes its output: what stays in the background must not
// hold us up.
func run(args []string) (w Watched, err error) {
	fd, err := unix.MemfdCreate("output", unix.MFD_CLOEXEC)
	if err != nil {
		return w, err
	}
	out := os.NewFile(uintptr(fd), "output")
	defer out.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return w, err
	}
	text := make([]byte, 4096)
	n, _ := out.ReadAt(text, 0)
	return Watched{Code: cmd.ProcessState.ExitCode(), Output: string(text[:n])}, nil
}

// host is the copy: upper is where the overlay keeps what was changed.
type host struct{ upper *os.File }

// enterCopy makes the copy of the host and makes it the root directory.
func enterCopy(dir string, keep []string) (*host, error) {
	root, upper, work := dir+"/host", dir+"/upper", dir+"/work"
	steps := []func() error{
		func() error { return unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, "") },
		func() error { return unix.Mount("watch", dir, "tmpfs", 0, "") },
		func() error { return errors.Join(os.Mkdir(root, 0o755), os.Mkdir(upper, 0o755), os.Mkdir(work, 0o755)) },
		func() error {
			if err := unix.Mount("watch", root, "overlay", 0, "lowerdir=/,upperdir="+upper+",workdir="+work); err != nil {
				return fmt.Errorf("no overlay over the root directory: %w", err) // it may be one of too many itself
			}
			return nil
		},
		func() error { return unix.Mount("/proc", root+"/proc", "", unix.MS_BIND|unix.MS_REC, "") },
		func() error { return unix.Mount("/sys", root+"/sys", "", unix.MS_BIND|unix.MS_REC, "") },
		func() error { return makeDev(root + "/dev") },
	}
	for i, step := range steps {
		if err := step(); err != nil {
			return nil, fmt.Errorf("watch: step %d: %w", i, err)
		}
	}
	for _, k := range keep {
		if err := errors.Join(os.MkdirAll(root+k, 0o755), unix.Mount(k, root+k, "", unix.MS_BIND|unix.MS_REC, "")); err != nil {
			return nil, fmt.Errorf("watch: keep %s: %w", k, err)
		}
	}
	f, err := os.Open(upper)
	if err != nil {
		return nil, err
	}
	cwd, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		os.Chdir(root), unix.PivotRoot(".", "."), unix.Unmount(".", unix.MNT_DETACH), os.Chdir("/"), os.Chdir(cwd))
	return &host{f}, err
}

// makeDev mounts a /dev with the devices that programs expect.
func makeDev(dir string) error {
	if err := unix.Mount("dev", dir, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	for name, dev := range map[string]uint64{
		"null": unix.Mkdev(1, 3), "zero": unix.Mkdev(1, 5), "full": unix.Mkdev(1, 7), "random": unix.Mkdev(1, 8),
		"urandom": unix.Mkdev(1, 9), "tty": unix.Mkdev(5, 0), "ptmx": unix.Mkdev(5, 2), "console": unix.Mkdev(5, 1),
	} {
		if err := errors.Join(unix.Mknod(dir+"/"+name, unix.S_IFCHR, int(dev)), os.Chmod(dir+"/"+name, 0o666)); err != nil {
			return err
		}
	}
	if err := errors.Join(os.Mkdir(dir+"/pts", 0o755), os.Mkdir(dir+"/shm", 0o1777), os.Mkdir(dir+"/mqueue", 0o755)); err != nil {
		return err
	}
	return unix.Mount("devpts", dir+"/pts", "devpts", 0, "newinstance,ptmxmode=0666")
}

// canaries are settings of the host that attacks of the past have changed.
var canaries = []string{
	"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hostname", "/proc/sys/kernel/domainname",
	"/proc/sys/kernel/sysrq", "/proc/sys/kernel/shmmax", "/proc/sys/net/ipv4/ip_forward", "/proc/self/oom_score_adj",
}

// look writes down what there is: by path, what it is.
func (h *host) look() (map[string]string, error) {
	all := map[string]string{}
	upper := fmt.Sprintf("/proc/self/fd/%d", h.upper.Fd())
	if err := walk(upper+"/.", upper, all); err != nil {
		return nil, err
	}
	if err := walk("/dev", "", all); err != nil {
		return nil, err
	}
	for _, c := range canaries {
		text, err := os.ReadFile(c)
		if errors.Is(err, fs.ErrNotExist) {
			continue // not in this kernel
		}
		if err != nil {
			return nil, err
		}
		all[c] = strings.TrimSpace(string(text))
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(mounts)) {
		all["mount "+strings.TrimSpace(line)] = ""
	}
	return all, nil
}

// walk writes down every file below dir, with what of its path follows prefix as name.
// What is read is no change, so times of access are left out.
func walk(dir, prefix string, all map[string]string) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		what := fmt.Sprintf("mode %o owner %d:%d device %x size %d", st.Mode, st.Uid, st.Gid, st.Rdev, st.Size)
		if st.Mode&unix.S_IFMT == unix.S_IFREG {
			what += fmt.Sprintf(" modified %d.%d", st.Mtim.Sec, st.Mtim.Nsec)
		}
		all[strings.TrimPrefix(path, prefix)] = what
		return nil
	})
}

// compare lists the differences in order.
func compare(before, after map[string]string) (changes []string) {
	for _, name := range slices.Sorted(maps.Keys(after)) {
		switch old, had := before[name]; {
		case !had:
			changes = append(changes, "made "+name+" "+after[name])
		case old != after[name]:
			changes = append(changes, "changed "+name+": "+old+" to "+after[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if _, has := after[name]; !has {
			changes = append(changes, "removed "+name)
		}
	}
	return changes
}

// spoil does to the host what watch must notice.
func spoil([]string) (any, error) {
	return nil, errors.Join(
		os.WriteFile("/etc/spoilt", []byte("x"), 0o600),
		os.Chmod("/dev/null", 0o600),
		os.Remove("/etc/hostname"),
		unix.Mknod("/dev/spoilt", unix.S_IFCHR, int(unix.Mkdev(1, 3))),
		unix.Mount("spoilt", "/mnt", "tmpfs", 0, ""),
	)
}
