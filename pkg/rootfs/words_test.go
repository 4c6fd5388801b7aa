package rootfs

import (
	"testing"

	"golang.org/x/sys/unix"

	"box/pkg/launch"
)

// A file and a directory do not go together: engines look for "not a directory", and
// people for which of the two is which.
func TestMountsOfTheWrongKind(t *testing.T) {
	attach := launch.Step{Name: "mount /a on /b", Call: launch.MoveMount}
	open := launch.Step{Name: "mount /a on /b: open mount point", Call: launch.Openat2}
	for name, c := range map[string]struct {
		mount mount
		step  launch.Step
		errno unix.Errno
		want  string
	}{
		"file on directory": {mount{file: true}, attach, unix.EINVAL, "mount /a on /b: not a directory: a file cannot be mounted on a directory"},
		"directory on file": {mount{}, open, unix.ENOTDIR, "mount /a on /b: open mount point: not a directory: a directory cannot be mounted on a file"},
		"below a file":      {mount{file: true}, open, unix.ENOTDIR, "mount /a on /b: open mount point: not a directory"},
		"another reason":    {mount{}, attach, unix.EINVAL, "mount /a on /b: invalid argument"},
		"no bind mount":     {mount{kind: "tmpfs"}, open, unix.ENOTDIR, "mount /a on /b: open mount point: not a directory"},
	} {
		m := c.mount
		m.source, m.dest, m.first, m.end = "/a", "/b", 3, 5
		r := &Rootfs{mounts: []mount{m}}
		want := `unable to start container process: error during container init: error mounting "/a" to rootfs at "/b": ` + c.want
		if got := r.Explain(&launch.StepError{Index: 4, Step: c.step, Errno: c.errno}); got != want {
			t.Errorf("%s: %s", name, got)
		}
		if got := r.Explain(&launch.StepError{Index: 5, Step: c.step, Errno: c.errno}); got != "" {
			t.Errorf("%s: the step of somebody else: %s", name, got)
		}
	}
}
