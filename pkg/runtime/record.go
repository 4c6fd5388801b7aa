package runtime

import (
	"box/internal/strictjson"
	"box/pkg/cgroups"
	"box/pkg/resctrl"
)

// record is the reduced state on disk: all that the later commands need, small
// enough that decoding it costs nothing (a specs.Spec costs half a millisecond).
// The bundle's config.json is kept beside it, verbatim, for the commands that
// need more (exec by flags, hooks).
type record struct {
	State
	StartTime   uint64           `json:"startTime"`             // of the init process, in clock ticks since boot
	BootID      string           `json:"bootID"`                // a pid means nothing after a reboot
	Cgroup      cgroups.Location `json:"cgroup,omitzero"`       // zero as long as it is not ours
	Command     string           `json:"command"`               // argv[0], for start's messages
	Join        uintptr          `json:"join"`                  // CLONE_NEW* flags of the namespaces that exec joins
	FilterFlags uint             `json:"filterFlags"`           // for seccomp(2), with the filter in filterFile
	Extras      bool             `json:"extras,omitempty"`      // config.json has settings that exec takes over (hasExtras)
	KeepKeyring bool             `json:"keepKeyring,omitempty"` // exec makes no session keyring either
	Resctrl     resctrl.Group    `json:"resctrl,omitzero"`      // of caches and memory bandwidth
	Chroot      bool             `json:"chroot,omitempty"`      // the container's root is that of its processes only (shared mount namespace)
	Hooks       bool             `json:"hooks"`                 // config.json has hooks for start or delete
	SharedPid   bool             `json:"sharedPid"`             // no pid namespace of its own: killing init leaves the others
	Pipes       []string         `json:"pipes,omitempty"`       // standard streams that were pipes of the caller's, by number (callersPipes)
}

// usualRecord is what a record takes in bytes, annotations and long paths aside.
const usualRecord = 1024

// JSON is the state on one line, as hooks get it.
func (s *State) JSON() ([]byte, error) { return strictjson.Append(nil, s, stateMembers) }

// The functions below name what the types have in JSON, for reading and writing. The keys
// are those of the tags, which a test compares, and stay as they are: containers outlive
// the version that made them.

func stateMembers(o *strictjson.Object, s *State) {
	strictjson.Text(o, "ociVersion", &s.OCIVersion)
	strictjson.Text(o, "id", &s.ID)
	strictjson.Number(o, "pid", &s.Pid)
	strictjson.Text(o, "status", &s.Status)
	strictjson.Text(o, "bundle", &s.Bundle)
	strictjson.Text(o, "rootfs", &s.Rootfs)
	strictjson.Textual(o, "created", &s.Created)
	strictjson.StringMap(o, "annotations", &s.Annotations)
	strictjson.Text(o, "owner", &s.Owner)
}

func recordMembers(o *strictjson.Object, r *record) {
	stateMembers(o, &r.State)
	strictjson.Count(o, "startTime", &r.StartTime)
	strictjson.Text(o, "bootID", &r.BootID)
	strictjson.Inner(o, "cgroup", &r.Cgroup, locationMembers)
	strictjson.Text(o, "command", &r.Command)
	strictjson.Count(o, "join", &r.Join)
	strictjson.Count(o, "filterFlags", &r.FilterFlags)
	strictjson.Flag(o, "extras", &r.Extras)
	strictjson.Flag(o, "keepKeyring", &r.KeepKeyring)
	strictjson.Inner(o, "resctrl", &r.Resctrl, resctrlMembers)
	strictjson.Flag(o, "chroot", &r.Chroot)
	strictjson.Flag(o, "hooks", &r.Hooks)
	strictjson.Flag(o, "sharedPid", &r.SharedPid)
	strictjson.Strings(o, "pipes", &r.Pipes)
}

func locationMembers(o *strictjson.Object, l *cgroups.Location) {
	strictjson.Text(o, "path", &l.Path)
	strictjson.StringMap(o, "legacy", &l.Legacy)
	strictjson.Text(o, "unit", &l.Unit)
	strictjson.Flag(o, "user", &l.User)
}

func resctrlMembers(o *strictjson.Object, g *resctrl.Group) {
	strictjson.Text(o, "path", &g.Path)
	strictjson.Text(o, "made", &g.Made)
	strictjson.Text(o, "monitor", &g.Monitor)
}
