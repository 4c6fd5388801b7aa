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
// namespace is joined. They belong after the command's ids are set, so that its
// permissions count.
func AddEnter(p *launch.Plan, dir string) {
	name := "enter working directory " + dir
	fd, path := p.Slot("working directory"), launch.Buffer("path", unix.PathMax)
	p.Add(
		launch.Step{
			Name: name, Why: "no magic links: /proc/self/fd/N could lead out of the container (CVE-2024-21626)",
			Call: launch.Openat2, Into: fd,
			Args: []launch.Arg{
				launch.Cwd, launch.Text(dir),
				launch.OpenHow(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0, unix.RESOLVE_NO_MAGICLINKS), launch.Int(launch.OpenHowSize),
			},
		},
		launch.Step{Name: name, Why: "what was opened, whatever the path means by now", Call: launch.Fchdir, Args: []launch.Arg{fd}},
		launch.Step{
			Name: name, Why: "the kernel knows whether the way from the root leads here", Call: launch.Getcwd,
			Args: []launch.Arg{path, launch.Int(unix.PathMax)},
		},
	)
	p.ExpectWord(name+": it is outside of the container's root", `"(unreachable)" stands before such a path instead of "/"`,
		path.At(0), 0xff, '/', unix.EXDEV)
}
