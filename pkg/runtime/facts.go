package runtime

import (
	"math/bits"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// facts are what planning needs to know of the host. They are gathered first, as a
// plain value, so that the plan is a pure function of the spec and of them.
type facts struct {
	held    uint64 // capabilities that we can hand on
	lastCap int    // highest capability that the kernel knows
	listen  int    // descriptors of socket activation (sd_listen_fds(3))
}

func gatherFacts() facts {
	f := facts{lastCap: lastCapability(), listen: listenFDs()}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err == nil {
		f.held = uint64(sets[1].Permitted)<<32 | uint64(sets[0].Permitted)
	}
	return f
}

// lastCapability asks the kernel for one capability after the other, beginning where
// our table ends: one or two calls.
func lastCapability() int {
	known := func(n int) bool {
		_, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(n), 0, 0, 0)
		return err == nil
	}
	n := len(capabilityNames) - 1
	for n > 0 && !known(n) {
		n--
	}
	for n < bits.UintSize-1 && known(n+1) {
		n++
	}
	return n
}

// listenFDs is the number of descriptors that a service manager has passed to us:
// they are for the container.
func listenFDs() int {
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return 0
	}
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil || n < 0 {
		return 0
	}
	return n
}
