package solve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"box/internal/errdefs"
	"box/pkg/build/plan"
	"box/pkg/network"
	"box/pkg/ocirt"
	"box/pkg/overlay"
	"box/pkg/spec/gen"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// hostname is that of every RUN step: the same on every machine.
const hostname = "box-build"

// bundleFile is the OCI configuration in the run directory.
const bundleFile = "config.json"

// runner runs the command of one step.
type runner struct {
	*solver
	ended bool // the runtime has reported the end of the container
	op    *plan.Op
	space *workspace
	netns *os.File
	ip    netip.Addr
}

// execute runs the command of a RUN step in a container on the workspace.
func (s *solver) execute(ctx context.Context, op *plan.Op, w *workspace) (err error) {
	r := &runner{solver: s, op: op, space: w}
	defer func() {
		err = errors.Join(err, r.cleanUp(context.WithoutCancel(ctx)))
	}()
	if err := r.connect(ctx); err != nil {
		return err
	}
	if err := r.writeFiles(); err != nil {
		return err
	}
	write, out, err := outputPipe(func(text string) { s.events.report(op, Output, text, 0) })
	if err != nil {
		return err
	}
	var code int
	err = overlay.PrivateMounts(ctx, func() error {
		defer write.Close()
		var err error
		code, err = r.inside(ctx, write)
		return err
	})
	write.Close() // PrivateMounts may not have come to run it
	return r.judge(ctx, code, err, out)
}

// judge makes an error of the outcome.
func (r *runner) judge(ctx context.Context, code int, err error, out *output) error {
	tail := out.lastLines()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	args := r.op.Run.Args
	if r.op.Run.Script != nil {
		args = []string{scriptPath(r.op.Run)}
	}
	if err != nil {
		if c := ocirt.CommandExitCode(err); c != 0 {
			return &RunError{Args: args, ExitCode: c, Tail: tail, Reason: err.Error()}
		}
		return err
	}
	if code != 0 {
		return &RunError{Args: args, ExitCode: code, Tail: tail}
	}
	return nil
}

// connect gives the step its network.
func (r *runner) connect(ctx context.Context) error {
	if r.op.Run.Network != "default" {
		return nil
	}
	if r.env.Network == nil {
		return errdefs.New(errdefs.ErrUnavailable, "no network is set up for RUN steps")
	}
	ns, err := network.NewNamespace()
	if err != nil {
		return err
	}
	r.netns = ns
	lease, err := r.env.Network.Attach(ctx, ns, network.Endpoint{ContainerID: r.space.id, Hostname: hostname})
	if err != nil {
		return err
	}
	r.ip = lease.IP
	return nil
}

// writeFiles makes the files that are mounted into the container.
func (r *runner) writeFiles() error {
	resolv, err := r.resolvConf()
	if err != nil {
		return err
	}
	files := []struct {
		name string
		data []byte
		mode os.FileMode
	}{
		{"resolv.conf", resolv, 0o644},
		{"hosts", network.Hosts(hostname, r.ip, nil), 0o644},
		{"netns", nil, 0o600},
	}
	if s := r.op.Run.Script; s != nil {
		files = append(files, struct {
			name string
			data []byte
			mode os.FileMode
		}{"script", []byte(s.Data), 0o755})
	}
	for _, f := range files {
		if err := writeFile(filepath.Join(r.space.dir(), f.name), f.data, f.mode); err != nil {
			return err
		}
	}
	return os.Mkdir(filepath.Join(r.space.dir(), "rootfs"), 0o755)
}

func (r *runner) resolvConf() ([]byte, error) {
	if r.op.Run.Network == "host" {
		data, err := os.ReadFile("/etc/resolv.conf")
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil
		}
		return data, err
	}
	return network.HostResolvConf()
}

// writeFile makes a new file whatever the umask is.
func writeFile(path string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Close())
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// inside runs in the private mount namespace: everything mounted here, and the
// network namespace with it, ends with this process at the latest.
func (r *runner) inside(ctx context.Context, out *os.File) (int, error) {
	rootfs := filepath.Join(r.space.dir(), "rootfs")
	// Mount points for /proc, /etc/resolv.conf and the like come from a
	// directory below the image, so that none has to be made in the snapshot.
	if err := r.space.active.Volatile().MountOver(rootfs, r.stubs); err != nil {
		return -1, err
	}
	defer unmount(rootfs)
	if r.netns != nil {
		target := filepath.Join(r.space.dir(), "netns")
		source := fmt.Sprintf("/proc/self/fd/%d", r.netns.Fd())
		if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
			return -1, fmt.Errorf("mount network namespace on %s: %w", target, err)
		}
		defer unmount(target)
	}
	if err := r.writeBundle(rootfs); err != nil {
		return -1, err
	}
	held, err := r.space.lock.RuntimeFile()
	if err != nil {
		return -1, err
	}
	defer held.Close()
	code, err := r.env.Runtime.Run(ctx, r.space.id, r.space.dir(), ocirt.RunOptions{
		CreateOptions: ocirt.CreateOptions{IO: ocirt.IO{Stdout: out, Stderr: out}, Inherit: []*os.File{held}},
	})
	r.ended = err == nil
	return code, err
}

// unmount detaches a mount if something still uses it: then it ends with that.
func unmount(target string) {
	if unix.Unmount(target, 0) != nil {
		_ = unix.Unmount(target, unix.MNT_DETACH) // the namespace is about to end anyway
	}
}

// writeBundle makes config.json.
func (r *runner) writeBundle(rootfs string) error {
	root, err := os.OpenFile(rootfs, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer root.Close()
	spec, err := r.spec(root)
	if err != nil {
		return err
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("write %s: %w", bundleFile, err)
	}
	return writeFile(filepath.Join(r.space.dir(), bundleFile), text, 0o600)
}

// cgroupPath is the control group of a step. It has no parent of box's own; see
// package engine.
func cgroupPath(id string) string { return "/box-" + id }

// scriptPath is where a heredoc script is found inside the container.
func scriptPath(run *plan.Run) string { return "/dev/pipes/" + run.Script.Name }

func (r *runner) spec(root *os.File) (*specs.Spec, error) {
	run := r.op.Run
	user, home, err := gen.ResolveUser(root, run.User)
	if err != nil {
		return nil, err
	}
	o := gen.Options{
		Args: run.Args, Env: environment(run, home), Cwd: run.Cwd, User: user, Hostname: hostname,
		HostNetwork: run.Network == "host", CgroupsPath: cgroupPath(r.space.id),
		// 32-bit programs have no other way to make a socket.
		Socketcall: run.Arch == "386",
		Mounts: []specs.Mount{
			r.bind("resolv.conf", "/etc/resolv.conf"),
			r.bind("hosts", "/etc/hosts"),
		},
	}
	if r.netns != nil {
		o.NetworkPath = filepath.Join(r.space.dir(), "netns")
	}
	if run.Script != nil {
		o.Args = []string{scriptPath(run)}
		o.Mounts = append(o.Mounts, r.bind("script", scriptPath(run), "ro"))
	}
	return gen.Spec(o)
}

func (r *runner) bind(file, dest string, options ...string) specs.Mount {
	return specs.Mount{
		Type: "bind", Source: filepath.Join(r.space.dir(), file), Destination: dest,
		Options: append([]string{"rbind", "rprivate"}, options...),
	}
}

// environment completes the variables with proxies and HOME.
func environment(run *plan.Run, home string) []string {
	env := append([]string(nil), run.Env...)
	env = append(env, run.Proxy...)
	for _, kv := range env {
		if strings.HasPrefix(kv, "HOME=") {
			return env
		}
	}
	return append(env, "HOME="+home)
}

// cleanUp takes the container and its network away, whatever has happened.
func (r *runner) cleanUp(ctx context.Context) error {
	var err error
	// A runtime that ran a container to its end has deleted it, too.
	if !r.ended && hadContainer(r.space.dir()) {
		err = r.env.Runtime.Clear(ctx, r.space.id, cgroupPath(r.space.id), r.space.lock.AwaitRuntime)
	}
	if r.netns != nil {
		err = errors.Join(err, r.env.Network.Detach(ctx, r.space.id), r.netns.Close())
		r.netns = nil
	}
	return err
}
