package plan

import (
	"math/bits"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"box/internal/errdefs"
)

// capabilityNames is indexed by capability number (capabilities(7),
// linux/capability.h). A kernel may know fewer, and one day more.
var capabilityNames = [...]string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
	"CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE",
	"CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER",
	"CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT",
	"CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME",
	"CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
	"CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM",
	"CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// capabilities are the five sets of a process, one bit per capability.
type capabilities struct {
	effective, permitted, inheritable, bounding, ambient uint64
}

// capabilitySets turns the names of a specs.LinuxCapabilities into sets. Names
// that are no capability, or that the kernel does not know (number > last), are
// left out and returned in unknown: runc warns of them too, for a profile written
// for a newer kernel must run on an older one.
func capabilitySets(c *specs.LinuxCapabilities, last int) (sets capabilities, unknown []string) {
	if c == nil {
		return capabilities{}, nil
	}
	for _, one := range []struct {
		set   *uint64
		names []string
	}{
		{&sets.effective, c.Effective},
		{&sets.permitted, c.Permitted},
		{&sets.inheritable, c.Inheritable},
		{&sets.bounding, c.Bounding},
		{&sets.ambient, c.Ambient},
	} {
		for _, name := range one.names {
			n := capabilityNumber(name)
			if n < 0 || n > last {
				if !slices.Contains(unknown, name) {
					unknown = append(unknown, name)
				}
				continue
			}
			*one.set |= 1 << n
		}
	}
	return sets, unknown
}

func capabilityNumber(name string) int {
	return slices.Index(capabilityNames[:], strings.ToUpper(name))
}

// allCapabilities are those of a process that holds every one, known or not.
const allCapabilities = ^uint64(0)

// check names the first capability that cannot be given, where the kernel would
// only say "operation not permitted".
func (c *capabilities) check(held uint64) error {
	if missing := c.permitted &^ held; missing != 0 {
		return errdefs.New(errdefs.ErrUnavailable, "give capability %s: box-runtime itself does not hold it", firstCapability(missing))
	}
	if missing := c.effective &^ c.permitted; missing != 0 {
		return errdefs.New(errdefs.ErrInvalid, "process.capabilities: effective %s is not permitted", firstCapability(missing))
	}
	return nil
}

// fitAmbient takes those capabilities out of the ambient set that the kernel would
// not raise, and names them. It is no error, as with runc and crun, whose spec
// commands write such sets: the command gets less, not more, than was asked for.
func (c *capabilities) fitAmbient() (missing []string) {
	lost := c.ambient &^ (c.permitted & c.inheritable)
	c.ambient &^= lost
	for ; lost != 0; lost &= lost - 1 {
		missing = append(missing, firstCapability(lost))
	}
	return missing
}

func firstCapability(set uint64) string { return capabilityName(bits.TrailingZeros64(set)) }

// capabilityName is the name, or the number where the kernel is ahead of the table.
func capabilityName(n int) string {
	if n < len(capabilityNames) {
		return capabilityNames[n]
	}
	return "capability " + strconv.Itoa(n)
}

// Capabilities are the names of all that are known here, by number.
func Capabilities() []string { return capabilityNames[:] }
