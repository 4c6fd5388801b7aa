package launch

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestPrint(t *testing.T) {
	var p Plan
	fs, end := p.Slot("proc"), p.Label()
	p.Add(Step{
		Name: "mount proc on /proc", Why: "the command looks there", Call: Fsopen, Into: fs,
		Args: Args{Text("proc"), Int(unix.FSOPEN_CLOEXEC)}, Allow: []Allow{{unix.ENODEV, end}, {AnyErrno, 0}, {unix.EAGAIN, Again}},
	})
	p.Add(Step{Name: "open", Why: "why", Call: Openat2, Args: Args{
		Cwd, Text("a\"b"), OpenHow(unix.O_PATH|unix.O_CLOEXEC|1<<40, 0o644, unix.RESOLVE_IN_ROOT), Int(OpenHowSize),
	}, Then: end})
	p.Add(Step{Name: "device", Call: Mknodat, Args: Args{fs, Text("null"), Int(unix.S_IFCHR | 0o666), Int(unix.Mkdev(1, 3))}})
	p.Add(Step{Name: "attr", Call: MountSetattr, Args: Args{
		fs, Text(""), Int(unix.AT_EMPTY_PATH), MountAttr(unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY, Propagation: unix.MS_SLAVE}), Int(MountAttrSize),
	}})
	p.Place(end)
	p.Add(Step{Name: "exec", Call: Execve, Args: Args{Text("/bin/true"), Strings([]string{"true", "x y"}), Nil}})
	p.Mark("ready", "nothing is left")
	p.Add(Step{Name: "keep", Call: Prctl, Args: Args{Int(unix.PR_SET_DUMPABLE)}})
	const want = `  0  mount proc on /proc
     why   the command looks there
     call  fsopen("proc", FSOPEN_CLOEXEC) -> $proc
     on    ENODEV: go to 4
     on    any error: go to 1
     on    EAGAIN: again
  1  open
     why   why
     call  openat2(AT_FDCWD, "a\"b", {flags=O_PATH|O_CLOEXEC|0x10000000000, mode=0644, resolve=RESOLVE_IN_ROOT}, 24)
     then  go to 4
  2  device
     why   
     call  mknodat($proc, "null", 020666, 1:3)
  3  attr
     why   
     call  mount_setattr($proc, "", AT_EMPTY_PATH, {set=MOUNT_ATTR_RDONLY, propagation=MS_SLAVE}, 32)
  4  exec
     why   
     call  execve("/bin/true", ["true", "x y"], NULL)
  5  ready
     why   nothing is left
     call  write($report, {mark}, 8)
  6  keep
     why   
     call  prctl(PR_SET_DUMPABLE, 0x0, 0x0, 0x0, 0x0)
`
	if diff := cmp.Diff(want, p.String()); diff != "" {
		t.Error(diff)
	}
}

func TestMessageIsLaidOutAsTheKernelHasIt(t *testing.T) {
	for _, c := range []struct {
		data  Arg
		names []string
		want  string
	}{
		{Text("hello"), []string{"$a"}, `{"hello", {SCM_RIGHTS, [$a]}}`},
		{Buffer("byte", 8), []string{"$a", "$b"}, "{&byte[5], {SCM_RIGHTS, [$a, $b]}}"},
		{Buffer("byte", 8), nil, "{&byte[5]}"},
	} {
		if got := NewMessage(c.data, 5, c.names...).Header.String(); got != c.want {
			t.Errorf("message = %s, want %s", got, c.want)
		}
	}
}
