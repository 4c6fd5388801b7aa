// Package admit has a program wait for its turn before the Go runtime starts in it.
//
// A hundred containers that are started at once are not finished any sooner by a
// hundred processes that do it at once: two processors do the work of two. But each of
// them holds memory meanwhile, and a Go process cannot wait cheaply: an empty one holds
// 0.7 MiB with the kernel's part of it before its main function is called, which is
// more than all of a container's start takes in crun. So the place to wait is before:
// the program's entry point is here (entry_amd64.s, entry_arm64.s), a few machine
// instructions that ask for one of a few places, two for each processor that the
// process may use, and then go on to the Go runtime's own entry point. A process that
// waits there holds some 60 KiB.
//
// The linker is told of the entry point with -ldflags '-E admit_rt0' (see the Makefile).
// A program that is built without has no admission, and is the same otherwise.
//
// What always holds:
//   - Nobody waits for ever. The places are there for memory's sake, not for
//     correctness: after two seconds in which nobody has got one, and after half a minute
//     at most, a process goes on without, as it does on every error. Holders do not
//     depend on others: before they wait for anything that they have not made themselves
//     (a hook, the end of a container) they give the place back with Leave.
//   - A place comes back however its holder dies. It is a unit of a System V semaphore
//     taken with SEM_UNDO, which the kernel gives back when the process ends (semop(2)).
//   - Nobody else can stop us. The semaphore belongs to our user, and only it and root
//     may use it; one that another user has made under our key is not waited for. A
//     container that is given the host's IPC namespace, and root in it, can hold all
//     places: it costs each of the others two seconds.
//   - Only the verbs that make containers wait: run and create. An argument that happens
//     to be called so costs its caller nothing but a place.
//
// The semaphore is made by the first program that looks for it and stays in the IPC
// namespace, as System V's do: one for each user and number of processors.
//
// # One processor
//
// A Go program starts faster on one processor: the runtime starts threads that have
// nothing to do yet, and each of them wakes another processor, disturbs the first by
// what both must know of their common memory, and makes the end longer: a fifth of the
// time of a small verb. So the entry point keeps the process to the processor that it is
// on, and who stays calls Spread.
//
// # A quiet watcher
//
// The runtime's watcher thread (sysmon) looks every 20 microseconds whether there is
// something to do, which the kernel makes 70 to 90 by its timer slack: in a verb that
// takes three milliseconds it takes an eighth of them for itself and for what it
// disturbs. The entry point makes the slack 5 milliseconds (prctl(2)), which the watcher
// takes over, as threads do from whom they are made by. Who starts another program calls
// Starting, for that would take over both.
//
// # No files
//
// The runtime reads the limits of its cgroup when it starts, even where it is told not to
// heed them (GODEBUG=containermaxprocs=0): with the list of all mounts on the way, that is a
// tenth of its start. It does without if it cannot open them. So the entry point takes the
// limit of open files down to the three that are open, and package files puts it up again
// before anybody else can ask for it.
package admit

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	_ "box/internal/admit/files"
)

// held is the semaphore set in which this process has a place, plus one. It is 0
// without a place, and set by the entry point, before there is a Go runtime.
var held int32

// sembuf is struct sembuf of semop(2).
type sembuf struct {
	number    uint16
	operation int16
	flags     int16
}

// semUndo is SEM_UNDO: what the operation did is undone at the end of the process, and
// what it undoes is forgotten.
const semUndo = 0x1000

// Leave gives the place back if this process has one. It is for those who stay: who
// only does their work and ends need not call it.
func Leave() {
	set := atomic.SwapInt32(&held, 0)
	if set == 0 {
		return
	}
	back := sembuf{operation: 1, flags: semUndo}
	// That the set is gone, which somebody may have removed by hand, is as good.
	_, _, _ = unix.RawSyscall(unix.SYS_SEMOP, uintptr(set-1), uintptr(unsafe.Pointer(&back)), 1)
}
