package plan

import (
	"strconv"

	"golang.org/x/sys/unix"

	"box/pkg/launch"
	"box/pkg/namespaces"
	"box/pkg/rootfs"
	"box/pkg/sched"
	"box/pkg/terminal"
)

// This file has the plans of processes that join a container: by exec, and as hooks.

// Exec is all that the plan of a further process in a container depends on.
type Exec struct {
	Process *Process
	// Env is its environment (Environment).
	Env []string
	// Join are the namespaces to join, as CLONE_NEW* flags.
	Join uintptr
	// Pidfd is the descriptor of the container's first process.
	Pidfd int
	// Root is the descriptor of the container's root directory, where its mount namespace
	// has another root: when it is shared with others. 0 where it need not be told.
	Root   int
	Layout Layout
	// OOMScore has the program set its oom_score_adj itself; nil leaves it to the parent.
	// Without privileges a parent cannot, for the files that an untraceable program has in
	// /proc are root's (proc(5)). Only a program that joins a user namespace may be told so:
	// until then, no container sees it.
	OOMScore *int
	// Terminal is the command's, if it has one. Root and UID are filled in.
	Terminal *terminal.Options
}

// Assemble writes down the way into the namespaces, then the same last third as for a
// new container.
func (e *Exec) Assemble() (*Assembly, error) {
	p := e.Process
	p.enter = e.Join&unix.CLONE_NEWPID != 0
	b := newAssembly(&e.Layout)
	b.confine(p)
	b.scoreOOM(e.OOMScore)
	b.begin()
	namespaces.AddEnter(b.Plan, launch.Int(e.Pidfd), e.Join)
	if e.Root != 0 {
		b.enterRoot(e.Root)
	}
	b.Plan.Await(launch.Int(e.Layout.Permit), "wait for the parent", "it sets limits from outside, by our pid")
	b.terminal(e.Terminal, launch.Cwd, false, p.spec.User.UID)
	if !p.enter { // else it does not yet have its session
		b.control(e.Terminal)
	}
	if err := b.becomeUser(p, &e.Layout); err != nil {
		return nil, err
	}
	b.executeAndTell(p.spec.Args, e.Env)
	return b, nil
}

// scoreOOM adds the steps by which the program tells the out-of-memory killer about itself.
func (b *Assembly) scoreOOM(score *int) {
	if score == nil {
		return
	}
	text, file := strconv.Itoa(*score), b.Plan.Slot("oom_score_adj")
	b.add(
		launch.Step{
			Name: "open oom_score_adj", Call: launch.Openat, Into: file,
			Args: launch.Args{launch.Cwd, launch.Text("/proc/self/oom_score_adj"), launch.Int(unix.O_WRONLY | unix.O_CLOEXEC), launch.Int(0)},
			Why:  "the runtime's own /proc, and before the program is untraceable: then the file is root's",
		},
		launch.Step{
			Name: "set oom_score_adj to " + text, Call: launch.Write,
			Args: launch.Args{file, launch.Text(text), launch.Int(len(text))},
			Why:  "the parent has no right to",
		},
		launch.Step{
			Name: "close oom_score_adj", Call: launch.Close, Args: launch.Args{file},
			Why: "done",
		},
	)
}

// enterRoot adds the steps into the container's root directory.
func (b *Assembly) enterRoot(fd int) {
	b.add(launch.Step{
		Name: "enter the container's root directory", Call: launch.Fchdir,
		Args: launch.Args{launch.Int(fd)},
		Why:  "the mount namespace is shared: its own root is another",
	})
	rootfs.AddChroot(b.Plan, "as the container's first process has done")
}

// Hook is all that the plan of a hook depends on. One that joins a container is born in its
// pid namespace (namespaces.EnterPid) unless HookEnters says otherwise.
type Hook struct {
	Path      string
	Args, Env []string
	// Process makes it a program of the container, with the command's credentials. Nil
	// makes it one of the host, found before the container's root is pivoted.
	Process *Process
	// Dir is the directory, by its path on the host, where those of the host begin.
	Dir string
	// Join are the namespaces to join, as CLONE_NEW* flags. A hook of the host without any
	// stays in its parent's session, too.
	Join uintptr
	// Pidfd is the descriptor of a process of the container, if there are any to join.
	Pidfd int
	// Root is as for Exec, for a program of the container.
	Root int
	// OOMScore is as for Exec.
	OOMScore *int
	// Layout has a permit pipe if the parent has something to do to the program, which
	// tells it with MarkEntered that it has its final number, and waits.
	Layout Layout
}

// Assemble writes down: join, become, execute.
func (h *Hook) Assemble() (*Assembly, error) {
	b := newAssembly(&h.Layout)
	if h.Process != nil {
		b.confine(h.Process)
	}
	b.scoreOOM(h.OOMScore)
	if h.Join != 0 || h.Process != nil {
		b.add(becomeUntraceable, createSession)
		sched.AddCPUReset(b.Plan) // as the container itself: those of the host keep the caller's
	}
	if HookEnters(h.Join) {
		namespaces.AddEnter(b.Plan, launch.Int(h.Pidfd), h.Join)
		b.Plan.Successor("enter the container's pid namespace", "the rights over it come with the user namespace, which only the program joins")
	} else {
		namespaces.AddEnter(b.Plan, launch.Int(h.Pidfd), h.Join&^unix.CLONE_NEWPID)
	}
	if h.Layout.Permit != 0 {
		b.Plan.Mark(MarkEntered, "the parent knows from here on which process is the hook")
		b.Plan.Await(launch.Int(h.Layout.Permit), "wait for the parent", "it sets limits from outside, by our pid")
	}
	if h.Process == nil {
		b.hostHook(h)
	} else if err := b.containerHook(h); err != nil {
		return nil, err
	}
	args := h.Args
	if len(args) == 0 {
		args = []string{h.Path}
	}
	b.execute(args, h.Env)
	return b, nil
}

// HookEnters reports whether the program of a hook joins the pid namespace itself, and goes
// on as another process: where there is a user namespace, a caller without privileges has no
// rights over the pid namespace before he is in it.
func HookEnters(join uintptr) bool {
	const both = unix.CLONE_NEWUSER | unix.CLONE_NEWPID
	return join&both == both
}

// containerHook adds the steps of a hook that is a program of the container.
func (b *Assembly) containerHook(h *Hook) error {
	if h.Root != 0 {
		b.enterRoot(h.Root)
	}
	p, named := *h.Process, *h.Process.spec
	named.Args = []string{h.Path}
	p.spec = &named
	return b.becomeUser(&p, &h.Layout)
}

// hostHook adds the steps of a hook that is a program of the host.
func (b *Assembly) hostHook(h *Hook) {
	b.command = b.Plan.Slot("hook")
	b.add(launch.Step{
		Name: "choose " + h.Path, Call: launch.Set, Args: launch.Args{launch.Text(h.Path)}, Into: b.command,
		Why: "the path counts in the runtime's file system, which is still the root here",
	}, launch.Step{
		Name: "enter " + h.Dir, Call: launch.Chdir, Args: launch.Args{launch.Text(h.Dir)},
		Why: "hooks in a container change its root before it is one, and find it here under runc and crun; others find the bundle",
	}, launch.Step{
		Name: "close descriptors", Call: launch.CloseRange,
		Args: launch.Args{launch.Int(h.Layout.Free), launch.Int(1<<32 - 1), launch.Int(unix.CLOSE_RANGE_CLOEXEC)},
		Why:  "the hook has no use for ours",
	})
}
