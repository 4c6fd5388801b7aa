package kernfs

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
)

// RemoveTree removes the directory of a group, and those below it if it has any.
// EBUSY says that one of them still has processes. Nothing there is no error.
func RemoveTree(dir string) error {
	if more, err := rmdir(unix.AT_FDCWD, dir); !more {
		return err
	}
	err := walk(dir, func(parent *os.File, name string) (bool, error) {
		return rmdir(int(parent.Fd()), name)
	}, func(parent *os.File, name string) error {
		_, err := rmdir(int(parent.Fd()), name)
		return err
	})
	if err != nil {
		return err
	}
	_, err = rmdir(unix.AT_FDCWD, dir)
	return err
}

// rmdir removes one directory. more tells that there may be others in it, in which case
// there is an error, too.
func rmdir(parent int, name string) (more bool, err error) {
	err = unix.Unlinkat(parent, name, unix.AT_REMOVEDIR)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	// Busy: processes, or groups below; what is no kernfs says that it is not empty.
	more = errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENOTEMPTY)
	return more, &os.PathError{Op: "rmdir", Path: name, Err: err}
}

// Procs returns the processes in the groups of some directories and in the groups
// below them, each once, in ascending order. A group that does not exist has none.
func Procs(dirs ...string) ([]int, error) {
	var pids []int
	for _, dir := range dirs {
		err := appendBelow(&pids, dir, "cgroup.procs")
		if errors.Is(err, unix.EOPNOTSUPP) {
			err = appendLeaders(&pids, dir)
		}
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}

// appendLeaders reads the processes of a threaded group, which lists threads only
// (cgroup-v2.rst, "Threads").
func appendLeaders(pids *[]int, dir string) error {
	var threads []int
	if err := appendBelow(&threads, dir, "cgroup.threads"); err != nil {
		return err
	}
	for _, thread := range threads {
		status, err := Read("/proc/" + strconv.Itoa(thread) + "/status")
		if Gone(err) || errors.Is(err, unix.ESRCH) {
			continue // it has ended
		}
		if err != nil {
			return err
		}
		_, rest, _ := strings.Cut(status, "\nTgid:\t")
		leader, _, _ := strings.Cut(rest, "\n")
		pid, err := strconv.Atoi(leader)
		if err != nil {
			return errdefs.New(errdefs.ErrCorrupt, "read the process of thread %d: %w", thread, err)
		}
		*pids = append(*pids, pid)
	}
	return nil
}

// appendBelow reads what a file lists in the group of a directory and in those below it.
func appendBelow(list *[]int, dir, file string) error {
	more, err := appendOne(list, unix.AT_FDCWD, dir, file)
	if err != nil || !more {
		return err
	}
	return walk(dir, func(parent *os.File, name string) (bool, error) {
		more, err := appendOne(list, int(parent.Fd()), name, file)
		if errors.Is(err, unix.EOPNOTSUPP) {
			return true, nil // it is threaded: the processes of its threads are listed above it
		}
		return more, err
	}, nil)
}

// appendOne reads what a file lists in one group. The link count of its directory tells
// whether there may be groups below, which saves reading it: a group has dozens of
// files, and most have nothing below.
func appendOne(list *[]int, parent int, dir, file string) (more bool, err error) {
	data, err := readAt(parent, dir+"/"+file)
	if err != nil && !Gone(err) {
		return false, err
	}
	for line := range strings.FieldsSeq(data) {
		id, err := strconv.Atoi(line)
		if err != nil {
			return false, errdefs.New(errdefs.ErrCorrupt, "read %s/%s: %w", dir, file, err)
		}
		if id > 0 { // 0 is a process of another pid namespace
			*list = append(*list, id)
		}
	}
	var st unix.Stat_t
	err = unix.Fstatat(parent, dir, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && st.Nlink != 2, nil
}

// walk goes through the groups below a directory. visit is called for each, with the
// directory that it is in, and tells by an error or true that it is worth going into; the
// error counts only if nothing else can be done about it there. leave, which may be nil,
// is called for those that were gone into, after what is below them. What is gone
// meanwhile has nothing below.
//
// A container with a writable cgroup tree nests groups as deep and wide as it likes. So
// the walk has one open directory, which it goes down from and up again, no path that
// could become longer than the kernel takes, and no recursion.
func walk(top string, visit func(parent *os.File, name string) (bool, error), leave func(parent *os.File, name string) error) error {
	w := &walker{}
	defer w.close()
	if err := w.enter(unix.AT_FDCWD, top); err != nil || len(w.todo) == 0 {
		return err
	}
	for {
		name, ok := w.next()
		if !ok {
			if len(w.names) == 0 {
				return nil
			}
			left, err := w.up()
			if err == nil && leave != nil {
				err = leave(w.dir, left)
			}
			if err != nil {
				return err
			}
			continue
		}
		into, err := visit(w.dir, name)
		if !into && err != nil {
			return err
		}
		if !into {
			continue
		}
		if err := w.enter(int(w.dir.Fd()), name); err != nil {
			return err
		}
	}
}

// walker is where a walk is.
type walker struct {
	dir   *os.File
	names []string   // on the way from the top to dir
	todo  [][]string // what is to be visited in the top, in the next, and so on to dir
}

func (w *walker) close() {
	if w.dir != nil {
		w.dir.Close()
	}
}

// next takes the next group in the directory.
func (w *walker) next() (name string, ok bool) {
	here := &w.todo[len(w.todo)-1]
	if len(*here) == 0 {
		return "", false
	}
	name, *here = (*here)[0], (*here)[1:]
	return name, true
}

// enter opens a directory and lists what is in it, unless it is gone.
func (w *walker) enter(parent int, name string) error {
	dir, err := openDirectory(parent, name)
	if Gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if w.dir != nil {
		w.dir.Close()
		w.names = append(w.names, name)
	}
	w.dir = dir
	entries, err := dir.ReadDir(-1)
	if err != nil && !Gone(err) {
		return err
	}
	var groups []string
	for _, e := range entries {
		if e.IsDir() {
			groups = append(groups, e.Name())
		}
	}
	w.todo = append(w.todo, groups)
	return nil
}

// up goes back to the directory above, and returns the name of the one that was left.
func (w *walker) up() (left string, err error) {
	above, err := openDirectory(int(w.dir.Fd()), "..")
	if err != nil {
		return "", err
	}
	w.dir.Close()
	last := len(w.names) - 1
	left, w.dir, w.names, w.todo = w.names[last], above, w.names[:last], w.todo[:len(w.todo)-1]
	return left, nil
}

func openDirectory(parent int, name string) (*os.File, error) {
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}
