package rootfs

import (
	"golang.org/x/sys/unix"

	"box/pkg/launch"
)

// AddWorkdir adds the steps that make the command's working directory if it is
// missing, as other runtimes do. They come before AddPivot, which may make the root
// read-only.
func (r *Rootfs) AddWorkdir(p *launch.Plan, dir string) {
	t := r.directory(cleanDest(dir))
	if t.path == "/" {
		return
	}
	r.addTarget(p, t, "create working directory "+dir, "it may be missing from the image")
}

// AddEnter adds the steps that enter the working directory dir and verify that it
// lies in the root: for new containers after AddPivot, for exec after the mount
// namespace is joined. They come while the program is root, for the command's user may
// not be allowed to pass through the directories above.
//
// Where root may not enter and its user may (a directory of an id that the user
// namespace does not have, a network file system), the function that is returned adds
// the steps of a second try; it belongs behind the change of ids. Nothing is called
// there if the first try went well.
func AddEnter(p *launch.Plan, dir string) (again func()) {
	fd, refused := p.Slot("working directory"), p.Label()
	addEnter(p, dir, fd, launch.Allow{Errno: unix.EACCES, To: refused})
	p.Place(refused)
	return func() {
		name, entered := "tell whether the working directory is entered", p.Label()
		p.Add(launch.Step{
			Name: name, Why: "root may have been refused where the command's user is not", Call: launch.Expect,
			Args:  launch.Args{fd, launch.Int(-1), launch.Int(-int64(unix.EACCES)), launch.Int(unix.EEXIST)},
			Allow: []launch.Allow{{Errno: unix.EEXIST, To: entered}},
		})
		addEnter(p, dir, p.Slot("working directory"))
		p.Place(entered)
	}
}

func addEnter(p *launch.Plan, dir string, fd launch.Slot, allow ...launch.Allow) {
	name, path := "enter working directory "+dir, launch.Buffer("path", unix.PathMax)
	p.Add(
		launch.Step{
			Name: name, Why: "no magic links: /proc/self/fd/N could lead out of the container (CVE-2024-21626)",
			Call: launch.Openat2, Into: fd, Allow: allow,
			Args: launch.Args{
				launch.Cwd, launch.Text(dir),
				launch.OpenHow(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0, unix.RESOLVE_NO_MAGICLINKS), launch.Int(launch.OpenHowSize),
			},
		},
		launch.Step{
			Name: name, Why: "what was opened, whatever the path means by now", Call: launch.Fchdir,
			Args: launch.Args{fd}, Into: fd, Allow: allow,
		},
		launch.Step{
			Name: name, Why: "the kernel knows whether the way from the root leads here", Call: launch.Getcwd,
			Args: launch.Args{path, launch.Int(unix.PathMax)},
		},
	)
	p.ExpectWord(name+": it is outside of the container's root", `"(unreachable)" stands before such a path instead of "/"`,
		path.At(0), 0xff, '/', unix.EXDEV)
}
