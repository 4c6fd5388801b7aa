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

// Members returns the processes in the groups of some directories, as kernfs.Procs does,
// but for those that are only there for the moment of a fork (Within): a group lists a
// process of which one thread has come. They are to be neither shown nor signalled, and
// above all not killed. What tells them is that their threads are in different groups and
// that they execute our own program: either alone could be brought about by a container.
func Members(dirs ...string) ([]int, error) {
	pids, err := kernfs.Procs(dirs...)
	if len(pids) == 0 || err != nil {
		return nil, err
	}
	var own, its unix.Stat_t
	if unix.Stat("/proc/self/exe", &own) != nil {
		return pids, nil
	}
	ours := func(pid int) bool {
		return unix.Stat(procOf(pid)+"/exe", &its) == nil && its.Dev == own.Dev && its.Ino == own.Ino
	}
	if !slices.ContainsFunc(pids, ours) {
		return pids, nil
	}
	pids = slices.DeleteFunc(pids, func(pid int) bool { return ours(pid) && divided(procOf(pid)) })
	now, err := kernfs.Procs(dirs...) // one that is undivided may be so because it has left
	return slices.DeleteFunc(pids, func(pid int) bool { return ours(pid) && !slices.Contains(now, pid) }), err
}

func procOf(pid int) string { return "/proc/" + strconv.Itoa(pid) }

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
