package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Self is what a process in a container finds out about itself.
type Self struct {
	FDs    map[string]string // descriptors and what they lead to
	Cwd    string
	UID    int
	GID    int
	Groups []int
	Status map[string]string // of /proc/self/status: capabilities, NoNewPrivs, Seccomp
	Leader bool              // of a session
	TTY    bool              // it has a controlling terminal
	Env    []string
}

// self looks at ourselves. The descriptor of the look itself is left out.
func self([]string) (any, error) {
	s := Self{FDs: map[string]string{}, Status: map[string]string{}, UID: os.Getuid(), GID: os.Getgid(), Env: os.Environ()}
	for n := range 256 {
		var st unix.Stat_t
		if unix.Fstat(n, &st) == nil {
			s.FDs[fmt.Sprint(n)], _ = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", n))
		}
	}
	for n, what := range s.FDs { // Go's own
		if strings.HasPrefix(what, "anon_inode:[event") || strings.HasPrefix(what, "/proc/") || strings.HasPrefix(what, "/sys/") {
			delete(s.FDs, n)
		}
	}
	var err error
	if s.Cwd, err = os.Getwd(); err != nil {
		return nil, err
	}
	if s.Groups, err = os.Getgroups(); err != nil {
		return nil, err
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		s.Status[key] = strings.TrimSpace(value)
	}
	sid, _ := unix.Getsid(0)
	s.Leader = sid == os.Getpid()
	if fd, err := unix.Open("/dev/tty", unix.O_RDWR, 0); err == nil {
		s.TTY = true
		unix.Close(fd)
	}
	return s, nil
}

// devices makes a node of every number that Linux gives away, opens it every way, and
// tells which could be opened.
func devices([]string) (any, error) {
	var open []string
	var made int
	for _, kind := range []uint32{unix.S_IFCHR, unix.S_IFBLK} {
		for major := range uint32(512) {
			for _, minor := range []uint32{0, 1, 2, 3, 7, 8, 9, 11, 12, 200, 229} {
				if unix.Mknod("/tmp/node", kind|0o666, int(unix.Mkdev(major, minor))) != nil {
					continue
				}
				made++
				for _, how := range []int{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR} {
					// What is not there is no proof of a rule: only EPERM is.
					fd, err := unix.Open("/tmp/node", how|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
					if err == nil {
						unix.Close(fd)
					}
					if err != unix.EPERM {
						open = append(open, fmt.Sprintf("%o %d:%d", kind, major, minor))
						break
					}
				}
				_ = unix.Unlink("/tmp/node")
			}
		}
	}
	return struct {
		Made int
		Open []string
	}{made, open}, nil
}

// sockets tries to make sockets of all families, and tells which could be made, or
// could not for another reason than that it is forbidden.
func sockets([]string) (any, error) {
	made := []int{}
	for family := range 46 {
		for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_SEQPACKET, unix.SOCK_RAW} {
			fd, err := socket(family, kind)
			if err == 0 {
				unix.Close(fd)
			}
			if err != unix.EPERM {
				made = append(made, family)
				break
			}
		}
	}
	return made, nil
}

// reexec executes what /proc/self/exe means to the kernel.
func reexec([]string) (any, error) {
	return nil, syscall.Exec("/proc/self/exe", []string{"probe", "true"}, nil)
}

// Reached is what can be done with one path.
type Reached struct {
	Exists bool
	Bytes  int  // that could be read of a file
	Names  int  // in a directory
	Write  bool // it can be opened for writing, or a file be made in it
}

// reach tries to read and to write each path.
func reach(paths []string) (any, error) {
	all := map[string]Reached{}
	for _, path := range paths {
		var r Reached
		var st unix.Stat_t
		r.Exists = unix.Lstat(path, &st) == nil
		file := path // to be written
		if names, err := os.ReadDir(path); err == nil {
			r.Names = len(names)
			file += "/probe"
		} else if fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK, 0); err == nil {
			r.Bytes, _ = unix.Read(fd, make([]byte, 4096))
			unix.Close(fd)
		}
		if fd, err := unix.Open(file, unix.O_WRONLY|unix.O_CREAT|unix.O_NONBLOCK, 0o600); err == nil {
			r.Write = true
			unix.Close(fd)
		}
		all[path] = r
	}
	return all, nil
}

// File is one file of a tree, and whether it can be opened for writing.
type File struct {
	Path  string
	Write bool
}

// tree tries to open every file below a directory for writing, down to three levels:
// below a mount of the host's own groups lie hundreds of others.
func tree(args []string) (any, error) {
	files := []File{}
	err := filepath.WalkDir(args[0], func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil //nolint:nilerr // what cannot be read is no find
		case d.IsDir() && strings.Count(path[len(args[0]):], "/") > 3:
			return fs.SkipDir
		case d.IsDir():
			return nil
		}
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err == nil {
			unix.Close(fd)
		}
		files = append(files, File{path, err == nil})
		return nil
	})
	return files, err
}
