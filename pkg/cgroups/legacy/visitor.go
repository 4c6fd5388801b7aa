package legacy

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"box/pkg/cgroups/kernfs"
)

// Members drops those of pids that are only there for the moment of a fork (Within): a
// group lists a process of which one thread has come. They are to be neither shown nor
// signalled, and above all not killed. What tells them is that their threads are in
// different groups and that they execute our own program: either alone could be brought
// about by a container.
func Members(pids []int) []int {
	var own, its unix.Stat_t
	if len(pids) == 0 || unix.Stat("/proc/self/exe", &own) != nil {
		return pids
	}
	return slices.DeleteFunc(pids, func(pid int) bool {
		proc := "/proc/" + strconv.Itoa(pid)
		return unix.Stat(proc+"/exe", &its) == nil && its.Dev == own.Dev && its.Ino == own.Ino && divided(proc)
	})
}

// divided reports whether the threads of a process are in different groups.
func divided(proc string) bool {
	threads, err := os.ReadDir(filepath.Join(proc, "task"))
	if err != nil {
		return false
	}
	first := ""
	for _, t := range threads {
		groups, err := kernfs.Read(filepath.Join(proc, "task", t.Name(), "cgroup"))
		switch {
		case errors.Is(err, unix.ESRCH), kernfs.Gone(err): // it has ended
		case err != nil:
			return false
		case first == "":
			first = groups
		case groups != first:
			return true
		}
	}
	return false
}
