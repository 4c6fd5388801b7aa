package main

import (
	"errors"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// race exchanges two names of a directory as fast as it can until its standard input
// ends, and says how often it did: its arguments are the directory and the names.
func race(args []string) (any, error) {
	if len(args) != 3 {
		return nil, errors.New("race: want DIR NAME NAME")
	}
	dir, err := os.Open(args[0])
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	fd := int(dir.Fd())
	var over atomic.Bool
	go func() { untilEnd(); over.Store(true) }()
	n := 0
	for ; !over.Load(); n++ {
		if err := unix.Renameat2(fd, args[1], fd, args[2], unix.RENAME_EXCHANGE); err != nil && !errors.Is(err, unix.EBUSY) {
			return nil, err
		}
	}
	return n, nil
}

// Covered is what the probe finds of the masks in its container.
type Covered struct {
	Proc     bool // there is a procfs on /proc
	Writable bool // and a setting of the host can be written there
	Kcore    bool // and the memory of the kernel can be read
}

// covered looks at what masked and read-only paths are to protect.
func covered([]string) (any, error) {
	var c Covered
	var st unix.Statfs_t
	dir, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil || unix.Fstatfs(dir, &st) != nil || st.Type != unix.PROC_SUPER_MAGIC {
		return c, nil
	}
	c.Proc = true
	if fd, err := unix.Openat(dir, "sys/kernel/core_pattern", unix.O_WRONLY, 0); err == nil {
		c.Writable = true
		unix.Close(fd)
	}
	var kcore unix.Stat_t
	if unix.Fstatat(dir, "kcore", &kcore, 0) == nil {
		c.Kcore = kcore.Mode&unix.S_IFMT == unix.S_IFREG
	}
	return c, nil
}
