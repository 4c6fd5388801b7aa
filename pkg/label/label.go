// Package label has a process confined by the kernel's security modules: AppArmor by the
// name of a profile, SELinux by a label.
//
// Both are asked for by writing to a file of one's own process, and take effect at the
// next execve. So what Add adds are steps of the launch program, and they come first of
// all in it: before anything of the container is in sight that could be mistaken for a
// procfs (CVE-2019-16884, CVE-2023-28642, CVE-2025-52881), and before the program gives
// up being dumpable, after which its files in /proc are root's. No file of the container
// is ever written to.
//
// The package loads no profile and no policy, and does not relabel files. Whether the
// kernel has a module is looked at by Look, once, and given to Check as a value; asking
// for a module that is not there is an error and never silence.
package label

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/launch"
)

// Unconfined is the name of no profile: it asks AppArmor for nothing where there is
// none, and to leave the profile that we run under where there is.
const Unconfined = "unconfined"

// Wish is how a process is to be confined; the zero Wish asks for nothing.
type Wish struct {
	AppArmor string // name of a loaded profile
	SELinux  string // user:role:type:level
}

// None tells that nothing is asked for.
func (w Wish) None() bool { return w == Wish{} }

// Host says which modules the kernel has switched on.
type Host struct{ AppArmor, SELinux bool }

// Look looks at the host. It is for those who have a wish; the others save its price.
func Look() Host {
	enabled, _ := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	return Host{AppArmor: strings.HasPrefix(string(enabled), "Y"), SELinux: seLinux()}
}

// seLinuxMagic is the type of SELinux's file system (linux/magic.h).
const seLinuxMagic = 0xf97cff8c

// seLinux tells whether SELinux has a policy: without one its file system can be there,
// and every process is the kernel's.
func seLinux() bool {
	var fs unix.Statfs_t
	if unix.Statfs("/sys/fs/selinux", &fs) != nil || fs.Type != seLinuxMagic {
		return false
	}
	current, err := os.ReadFile("/proc/thread-self/attr/current")
	return err == nil && strings.TrimRight(string(current), "\x00\n") != "kernel"
}

// maxLabel bounds a label: the kernel takes one page (proc(5), attr).
const maxLabel = 4096

// Check checks a wish against the host, in runc's words.
func (w Wish) Check(h Host) error {
	if err := errors.Join(checkText("process.apparmorProfile", w.AppArmor), checkText("process.selinuxLabel", w.SELinux)); err != nil {
		return err
	}
	if w.AppArmor != "" && w.AppArmor != Unconfined && !h.AppArmor {
		return errdefs.New(errdefs.ErrUnsupported, "process.apparmorProfile: apparmor: config provided but apparmor not supported")
	}
	if w.SELinux != "" {
		return checkSELinux("process.selinuxLabel", h)
	}
	return nil
}

// checkText refuses what no module can take for one label.
func checkText(path, label string) error {
	if strings.ContainsAny(label, "\x00\n") || len(label) >= maxLabel-len(execPrefix) {
		return errdefs.New(errdefs.ErrInvalid, "%s: %q is no label", path, label)
	}
	return nil
}

// CheckMount checks linux.mountLabel, the label of the files in new file systems, which
// is given as an option of their mounts.
func CheckMount(label string, h Host) error {
	if label == "" {
		return nil
	}
	return errors.Join(checkText("linux.mountLabel", label), checkSELinux("linux.mountLabel", h))
}

// checkSELinux refuses a label of the field at path where there is no SELinux.
func checkSELinux(path string, h Host) error {
	if h.SELinux {
		return nil
	}
	return errdefs.New(errdefs.ErrUnsupported, "%s: selinux label is specified in config, but selinux is disabled or not supported", path)
}

// execPrefix is the verb of AppArmor's file.
const execPrefix = "exec "

// What the names of the steps begin with.
const (
	applyProfile = "apply apparmor profile"
	applyLabel   = "apply selinux label"
)

// Failure is the sentence for the failure of a step that Add has added, with runc's words
// for a profile that cannot be applied.
func Failure(step string, errno unix.Errno) string {
	text := step + ": " + errno.Error()
	if strings.HasPrefix(step, applyProfile) {
		return "unable to apply apparmor profile: apparmor failed to apply profile: " + text
	}
	return text
}

// Add adds the steps for a wish that has been checked. Without a wish it adds none. The
// result is the slot of an open file for LabelKeys, or 0.
func Add(p *launch.Plan, w Wish, h Host) launch.Slot {
	if w.AppArmor != "" && h.AppArmor {
		file := open(p, applyProfile, "attr/apparmor/exec", "attr/exec")
		write(p, applyProfile+" "+w.AppArmor, file, execPrefix+w.AppArmor, "it counts from the next execve on; only loaded profiles are taken")
		p.Add(closeFile(applyProfile, file))
	}
	if w.SELinux == "" {
		return 0
	}
	file := open(p, applyLabel, "attr/exec")
	write(p, applyLabel+" "+w.SELinux, file, w.SELinux, "it counts from the next execve on")
	p.Add(closeFile(applyLabel, file))
	return open(p, "label keyrings", "attr/keycreate")
}

// LabelKeys adds the step that has SELinux give new keys the label, or with "" no label
// of their own again. The file is what Add has returned; without one nothing is added.
func LabelKeys(p *launch.Plan, file launch.Slot, value string) {
	if file != 0 {
		write(p, "label keyrings", file, value, "the session keyring is the container's, and only the container's domain may use it")
	}
}

// open adds the steps that open a file of the program's own in procfs: the first of the
// names that is there.
func open(p *launch.Plan, name string, paths ...string) launch.Slot {
	dir, file, found := p.Slot("/proc"), p.Slot("attribute"), p.Label()
	stat := launch.Buffer("statfs", 128)
	p.Add(
		launch.Step{
			Name: name + ": open /proc", Why: "the runtime's own: the container has no part in it yet", Call: launch.Openat, Into: dir,
			Args: launch.Args{launch.Cwd, launch.Text("/proc/thread-self"), launch.Int(unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC), launch.Int(0)},
		},
		launch.Step{Name: name + ": look at /proc", Why: "for the next step", Call: launch.Fstatfs, Args: launch.Args{dir, stat}},
	)
	p.ExpectWord(name+": /proc is no procfs", "written anywhere else, it would look like success", stat.At(0), ^uint32(0), unix.PROC_SUPER_MAGIC, unix.ENODEV)
	for i, path := range paths {
		step := launch.Step{
			Name: name + ": open " + path, Why: "a process can set this on itself only", Call: launch.Openat2, Into: file, Then: found,
			Args: launch.Args{
				dir, launch.Text(path),
				launch.OpenHow(unix.O_WRONLY|unix.O_CLOEXEC, 0, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_XDEV),
				launch.Int(launch.OpenHowSize),
			},
		}
		if i < len(paths)-1 {
			step.Allow = []launch.Allow{{Errno: unix.ENOENT}} // older kernels have but one name for all modules
		}
		p.Add(step)
	}
	p.Place(found)
	p.Add(closeFile(name, dir))
	return file
}

func write(p *launch.Plan, name string, file launch.Slot, value, why string) {
	p.Add(launch.Step{
		Name: name, Why: why, Call: launch.Write,
		Args: launch.Args{file, launch.Text(value), launch.Int(len(value))},
	})
}

func closeFile(name string, file launch.Slot) launch.Step {
	return launch.Step{Name: name + ": close", Why: "done", Call: launch.Close, Args: launch.Args{file}}
}
