package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/urfave/cli/v2"

	"box/internal/errdefs"
	"box/pkg/engine"
	"box/pkg/image"
	"box/pkg/record"
)

func (a *app) runCommand() *cli.Command {
	var f containerFlags
	var detach bool
	var client clientFlags
	return &cli.Command{
		Name: "run", ArgsUsage: "IMAGE [COMMAND] [ARG...]", Category: groupContainer, Usage: "Run a command in a new container",
		Flags: slices.Concat(
			[]cli.Flag{boolFlag(&detach, "detach,d", "run in the background and print the container's id")},
			f.flags(), client.flags()),
		Action: attached(ofContainer(rootOnly(func(ctx context.Context, args []string) error {
			return a.run(ctx, &f, client, detach, args)
		}))),
	}
}

// clientFlags say how this process stands to the container that it is attached
// to.
type clientFlags struct {
	sigProxy   bool
	detachKeys string
}

func (f *clientFlags) flags() []cli.Flag {
	f.sigProxy, f.detachKeys = true, engine.DefaultDetachKeys
	return []cli.Flag{
		boolFlag(&f.sigProxy, "sig-proxy", "pass signals on to the container (true)"),
		textFlag(&f.detachKeys, "detach-keys", "`keys` that leave it running (ctrl-p,ctrl-q)"),
	}
}

func (a *app) run(ctx context.Context, f *containerFlags, client clientFlags, detach bool, args []string) error {
	o, err := f.finish(args[1:], os.LookupEnv)
	if err != nil {
		return err
	}
	stdio, err := a.stdio(o.OpenStdin && !detach, o.Tty && !detach, client)
	if err != nil {
		return err
	}
	if detach {
		stdio = engine.Stdio{}
	}
	o.StdinOnce = o.OpenStdin && !detach
	o.ImageName = args[0]
	if o.Image, err = a.findOrPull(ctx, args[0], f.pull, f.quiet); err != nil {
		return err
	}
	if err := a.sweepStore(ctx); err != nil {
		return err
	}
	cid, err := openCIDFile(f.cidFile)
	if err != nil {
		return err
	}
	e, err := a.engine()
	if err != nil {
		return errors.Join(err, cid.drop())
	}
	r, session, err := e.Run(ctx, o, stdio)
	if err != nil {
		return errors.Join(startFailure(err), cid.drop(), undo(ctx, e, r))
	}
	if err := cid.write(r.ID); err != nil {
		return err
	}
	if detach {
		fmt.Fprintln(a.out, r.ID)
		return session.Close()
	}
	return wait(ctx, session, client.sigProxy && !o.Tty)
}

// undo removes a container that was made but could not be started, for
// instance because a port is in use. Docker leaves it; here a command that
// failed has changed nothing.
func undo(ctx context.Context, e *engine.Engine, r *record.Record) error {
	if r == nil {
		return nil
	}
	err := e.Remove(context.WithoutCancel(ctx), r.ID, engine.RemoveOptions{Force: true, Volumes: true})
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil // removed already, by --rm
	}
	return err
}

// wait stays with the container until it is over, and ends with its exit code.
func wait(ctx context.Context, s *engine.Session, forward bool) error {
	if forward {
		defer s.ForwardSignals(ctx)()
	}
	code, err := s.Wait(ctx)
	if errors.Is(err, engine.ErrDetached) {
		return nil
	}
	if err != nil {
		return startFailure(err)
	}
	return exitWith(code)
}

// startFailure gives a command that could not be started the exit code that
// shells give it.
func startFailure(err error) error {
	var start *record.StartError
	if errors.As(err, &start) {
		return withCode(err, start.Code)
	}
	return err
}

// stdio is what this process joins to a container that it attaches to.
func (a *app) stdio(stdin, tty bool, client clientFlags) (engine.Stdio, error) {
	var s engine.Stdio
	keys, err := engine.ParseDetachKeys(client.detachKeys)
	if err != nil {
		return s, usage(err)
	}
	s.DetachKeys = keys
	s.Stdout, _ = a.out.(*os.File)
	s.Stderr, _ = a.err.(*os.File)
	if !stdin {
		return s, nil
	}
	if tty && !isTerminal(a.in) {
		return s, errdefs.WithHint(
			errdefs.New(errdefs.ErrInvalid, "attach standard input: it is not a terminal, but -t asks for one"),
			"leave out -t when the input is a pipe or a file")
	}
	s.Stdin = a.in
	return s, nil
}

// Values of --pull.
const (
	pullAlways  = "always"
	pullMissing = "missing"
	pullNever   = "never"
)

// findOrPull finds the image in the store, and in its registry if it is not
// there.
func (a *app) findOrPull(ctx context.Context, name, when string, quiet bool) (*image.Image, error) {
	images, err := a.images()
	if err != nil {
		return nil, err
	}
	switch when {
	case "", pullMissing, pullNever:
		img, err := images.Lookup(name)
		if when == pullNever || !errors.Is(err, errdefs.ErrNotFound) {
			return img, err
		}
		if !quiet {
			fmt.Fprintf(a.err, "image %s is not here; pulling it\n", visible(name))
		}
	case pullAlways:
	default:
		return nil, usage(errdefs.New(errdefs.ErrInvalid, "flag --pull: %q is none of always, missing, never", when))
	}
	return a.pullImage(ctx, name, quiet)
}

// cidFile receives the id of the new container. It must not exist before, so
// that no script takes an old id for the new one.
type cidFile struct{ f *os.File }

func openCIDFile(path string) (cidFile, error) {
	if path == "" {
		return cidFile{}, nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, os.ErrExist) {
		return cidFile{}, errdefs.WithHint(errdefs.New(errdefs.ErrExists, "write --cidfile %s: it exists already", path), "remove it first, or name another one")
	}
	return cidFile{f}, err
}

func (c cidFile) write(id string) error {
	if c.f == nil {
		return nil
	}
	_, err := c.f.WriteString(id)
	return errors.Join(err, c.f.Close())
}

// drop removes the file again when there is no container.
func (c cidFile) drop() error {
	if c.f == nil {
		return nil
	}
	return errors.Join(c.f.Close(), os.Remove(c.f.Name()))
}
