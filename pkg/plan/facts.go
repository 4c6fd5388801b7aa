package plan

import (
	"box/pkg/label"
	"box/pkg/rootfs"
	"box/pkg/terminal"
)

// Facts are what planning needs to know of the host and of our own process. They are
// gathered first, as a plain value, so that a plan is a pure function of the spec and of
// them.
type Facts struct {
	// Held are the capabilities that we can hand on, one bit for each.
	Held uint64
	// LastCap is the highest capability that the kernel knows.
	LastCap int
	// Confined says that we live in a user namespace ourselves, as under podman without root.
	Confined bool
	// Streams is stdio, as far as it is open and no device.
	Streams []Stream
	// Nulls are the descriptors of stdio that are the host's /dev/null.
	Nulls []int
	// Stay says that the caller's own streams are used, and that it uses them too (foreground).
	Stay bool
	// Modules are the security modules, as far as somebody asks for one.
	Modules label.Host
	// Root is about the root directory and the mounts; only a new container needs it.
	Root rootfs.Facts
}

// Stream is a pipe, a socket or a file at a standard descriptor.
type Stream struct {
	FD   int
	UID  uint32 // its owner
	File bool   // it has a name, and is the caller's for longer than we run
}

// Layout says where a launch program finds its descriptors. They lie above stdio and
// what is passed on to the command; who starts the program puts them there.
//
//	0 1 2                    stdio, inherited
//	3 … Free-1               --preserve-fds, inherited
//	Report                   pipe to the parent: marks and failures
//	Permit                   pipe from the parent: a word lets the program go on
//	Start                    fifo of start, unless the command runs at once
//	… further ones           namespaces to join, the terminal's socket, errands
type Layout struct {
	// Free is the lowest descriptor that the command must not see.
	Free           int
	Report, Permit int
	// Start is 0 if the program does not wait for start.
	Start int
	// Joins are the namespaces to join, in the order of namespaces.Set.Joins.
	Joins []int
}

// FirstPreserved is the descriptor after stdio, as with systemd's LISTEN_FDS.
const FirstPreserved = 3

// idle is the first descriptor after the channels between the program and us.
func (l *Layout) idle() int { return max(l.Report, l.Permit, l.Start) + 1 }

// LayOut numbers the descriptors of a plan that will not be carried out, in the order in
// which create opens them; the program waits for start, and has a terminal if its command
// is to have one.
func (c *Container) LayOut() {
	c.Layout = Layout{Free: FirstPreserved, Report: FirstPreserved, Permit: FirstPreserved + 1, Start: FirstPreserved + 2}
	c.Wait = true
	next := c.Layout.idle()
	for range c.Set.Joins {
		c.Layout.Joins = append(c.Layout.Joins, next)
		next++
	}
	if p := c.Spec.Process; p.Terminal {
		c.Terminal = &terminal.Options{Socket: next}
		if p.ConsoleSize != nil {
			c.Terminal.Rows, c.Terminal.Cols = uint16(p.ConsoleSize.Height), uint16(p.ConsoleSize.Width)
		}
		next++
	}
	if len(c.Root.Errands()) > 0 {
		c.Root.UseHelper(next)
	}
}
