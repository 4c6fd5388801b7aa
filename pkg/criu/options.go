package criu

import (
	"os"

	"box/internal/errdefs"
)

// Kind is what criu is asked for (criu_req_type).
type Kind int

// The requests.
const (
	Dump         Kind = 1
	Restore      Kind = 2
	PreDump      Kind = 4
	notice       Kind = 6
	FeatureCheck Kind = 9
)

// Options are those of dumps and restores (criu_opts), as far as containers need them.
// Descriptors in Images and Work are ours; numbers in Inherit are those of criu.
type Options struct {
	Images *os.File // directory of the images
	Work   *os.File // directory of the log, or nil for that of the images
	Log    string   // its name there
	Root   string   // root directory of the processes, as criu sees it
	Pid    int      // whom to dump, with children
	Parent string   // earlier images, relative to Images; then changes are tracked

	LeaveRunning, TCPEstablished, TCPSkipInFlight, LinkRemap, ExtUnixSk, ShellJob, FileLocks, AutoDedup, LazyPages bool

	Sibling        bool // restored processes become our children, not criu's
	EvasiveDevices bool
	Cgroups        int // how cgroups are restored: Mode
	CgroupRoots    []Pair
	FreezeCgroup   string
	EmptyNamespace uint32 // CLONE_NEW* flags of namespaces whose contents are not criu's business
	PageServer     string // address of a page server, with PagePort
	PagePort       int
	ConfigFile     string

	Mounts   []Pair   // dump: mount point and its name; restore: name and source
	External []string // other things from outside: TYPE[ID]:KEY
	Joins    []Pair   // restore: kind of namespace and path
	Inherit  []Inherit

	LSMProfile, LSMMountContext string
}

// Pair is an entry of one of criu's maps.
type Pair struct{ Key, Value string }

// Inherit gives a descriptor of criu's process to what was known by key.
type Inherit struct {
	Key string
	FD  int
}

// Mode is the number of a mode of restoring cgroups (criu_cg_mode).
func Mode(name string) (int, error) {
	for i, known := range []string{"ignore", "", "", "soft", "full", "strict"} {
		if name == known && name != "" {
			return i, nil
		}
	}
	if name == "" {
		return 6, nil // criu's default, which is soft
	}
	return 0, errdefs.New(errdefs.ErrInvalid, "invalid manage-cgroups-mode value %q: soft, full, strict or ignore", name)
}

// logLevel is criu's for warnings, information and debugging.
const logLevel = 4

// encode writes the options with the field numbers of rpc.proto.
func (o *Options) encode() message {
	var m message
	m.number(1, int(o.Images.Fd()))
	if o.Work != nil {
		m.number(17, int(o.Work.Fd()))
	}
	if o.Pid != 0 {
		m.number(2, o.Pid)
	}
	for field, v := range map[int]bool{
		3: o.LeaveRunning, 4: o.ExtUnixSk, 5: o.TCPEstablished, 6: o.EvasiveDevices, 7: o.ShellJob, 8: o.FileLocks,
		12: true, 15: o.Parent != "", 16: o.AutoDedup, 18: o.LinkRemap, 24: true, 26: o.Sibling,
		46: o.TCPSkipInFlight, 48: o.LazyPages, 50: true, // notices, manage cgroups, hand back the terminal
	} {
		m.flag(field, v)
	}
	m.number(9, logLevel)
	m.number(34, o.Cgroups)
	m.number(38, int(o.EmptyNamespace))
	for field, s := range map[int]string{
		10: o.Log, 13: o.Root, 14: o.Parent, 44: o.FreezeCgroup, 51: o.ConfigFile, 53: o.LSMProfile, 63: o.LSMMountContext,
	} {
		m.text(field, s)
	}
	o.encodeLists(&m)
	return m
}

func (o *Options) encodeLists(m *message) {
	for field, list := range map[int][]Pair{23: o.Mounts, 25: o.CgroupRoots, 39: o.Joins} {
		for _, p := range list {
			var pair message
			pair.text(1, p.Key)
			pair.text(2, p.Value)
			m.sub(field, pair)
		}
	}
	for _, i := range o.Inherit {
		var fd message
		fd.text(1, i.Key)
		fd.number(2, i.FD)
		m.sub(27, fd)
	}
	for _, s := range o.External {
		m.text(37, s)
	}
	if o.PageServer != "" {
		var ps message
		ps.text(1, o.PageServer)
		ps.number(2, o.PagePort)
		m.sub(11, ps)
	}
}
