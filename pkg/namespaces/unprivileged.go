package namespaces

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/admit"
	"box/pkg/launch"
)

// idMapper is how somebody without privileges gets a new user namespace.
type idMapper int

const (
	// byKernel: we may write any map.
	byKernel idMapper = iota
	// ownIDs: the maps have nothing but our own ids, which anybody may write if setgroups
	// is denied before (user_namespaces(7)).
	ownIDs
	// subordinate: the maps have ids that only newuidmap(1) and newgidmap(1) may give,
	// to those whom subuid(5) and subgid(5) name.
	subordinate
)

// madeForIt is the path of a user namespace that Open makes: none.
const madeForIt = ""

// Unprivileged adapts the set to a caller who is not root. With maps of
// nothing but his own ids the fork goes on writing them. With others, the kernel lets
// only set-user-id programs write them, from outside, into a process that is there
// already: Open then makes the user namespace beforehand and the program joins it.
//
// A user namespace that exists already gives him the rights over a pid namespace of its
// own only from inside, so that the program joins both and goes on as its own successor.
func (s *Set) Unprivileged(uid, gid int) {
	s.unprivileged = true
	if s.joinsUser() {
		s.Joins, s.ParentJoins = append(s.Joins, s.ParentJoins...), nil
		s.order()
	}
	if !s.Creates(specs.UserNamespace) {
		return
	}
	if isOwn(s.uids, uid) && isOwn(s.gids, gid) {
		s.mapper = ownIDs
		return
	}
	s.mapper = subordinate
	s.New &^= unix.CLONE_NEWUSER
	k, _ := find(specs.UserNamespace)
	s.Joins = []Join{{specs.UserNamespace, madeForIt, k}}
	outside := s.ParentJoins
	s.ParentJoins = nil
	for _, j := range outside { // as sort divides them where the user namespace is joined
		if j.kind.flag == unix.CLONE_NEWPID {
			s.ParentJoins = append(s.ParentJoins, j)
		} else {
			s.Joins = append(s.Joins, j)
		}
	}
}

// order sorts the joins as kinds has them.
func (s *Set) order() {
	at := func(j Join) int {
		return slices.IndexFunc(kinds[:], func(k kind) bool { return k.flag == j.kind.flag })
	}
	slices.SortFunc(s.Joins, func(a, b Join) int { return at(a) - at(b) })
}

// Hides reports whether the caller cannot find the program in /proc, nor join its
// namespaces: it was executed outside the user namespace, where he has no rights over it.
func (s *Set) Hides() bool { return s.unprivileged && s.joinsUser() }

// AddVisible adds the step that lets a caller without privileges find the program again. It
// is for a program that has given up all that is not the command's already: from here on
// the container may trace it, as it may any that was executed inside.
func AddVisible(p *launch.Plan) {
	addDumpable(p, "whoever has no privileges could not join the namespaces of this process, nor take its descriptors")
}

// addVisibleAlone does the same for a program that nobody but its maker can see: the user
// namespace was made for it a moment ago, or its pid namespace is new.
func (s *Set) addVisibleAlone(p *launch.Plan) {
	if s.unprivileged && (s.mapper == subordinate || s.New&unix.CLONE_NEWPID != 0) {
		addDumpable(p, "else /proc/self belongs to the host's root, and hooks could not join us; nobody is here yet who could trace us")
	}
}

func addDumpable(p *launch.Plan, why string) {
	p.Add(launch.Step{
		Name: "become visible to our maker", Why: why, Call: launch.Prctl,
		Args: launch.Args{launch.Int(unix.PR_SET_DUMPABLE), launch.Int(1)},
	})
}

// isOwn tells whether a map has one id alone, which is id outside.
func isOwn(m []syscall.SysProcIDMap, id int) bool {
	return len(m) == 1 && m[0].HostID == id && m[0].Size == 1
}

// makeUser makes the user namespace of a set that is adapted to subordinate ids.
func (s *Set) makeUser() (*os.File, error) {
	var f *os.File
	err := withChild(syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}, func(child *launch.Process) (err error) {
		if err := writeMap("newuidmap", child.Pid, s.uids); err != nil {
			return err
		}
		if err := writeMap("newgidmap", child.Pid, s.gids); err != nil {
			return err
		}
		f, err = UserOf(child)
		return err
	})
	return f, err
}

// writeMap calls newuidmap or newgidmap (package uidmap).
func writeMap(program string, pid int, m []syscall.SysProcIDMap) error {
	defer admit.Starting()()
	out, err := exec.Command(program, mapArgs(pid, m)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("map ids with %s: %w: %s", program, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// mapArgs are the arguments of newuidmap(1): the process, and three numbers for each
// line of the map.
func mapArgs(pid int, m []syscall.SysProcIDMap) []string {
	args := []string{strconv.Itoa(pid)}
	for _, line := range m {
		args = append(args, strconv.Itoa(line.ContainerID), strconv.Itoa(line.HostID), strconv.Itoa(line.Size))
	}
	return args
}
