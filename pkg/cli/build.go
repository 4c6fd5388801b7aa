package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/urfave/cli/v2"

	"box/internal/atomicfile"
	"box/internal/errdefs"
	"box/pkg/build"
	"box/pkg/image"
	"box/pkg/image/registry"
)

func (a *app) buildCommand() *cli.Command {
	var f buildFlags
	return &cli.Command{
		Name: "build", ArgsUsage: "CONTEXT", Category: groupImage, Usage: "Build an image from a Dockerfile", Flags: f.flags(),
		Action: asRoot(func(ctx context.Context, args []string) error { return a.build(ctx, f, args[0]) }),
	}
}

type buildFlags struct {
	req               build.Request
	args, labels      []string
	progress, iidFile string
	quiet             bool
}

func (f *buildFlags) flags() []cli.Flag {
	r := &f.req
	var always bool
	return append([]cli.Flag{
		listFlag(&r.Tags, "tag,t", "name the image; may be given more than once: `name[:tag]`"),
		textFlag(&r.Dockerfile, "file,f", "the Dockerfile (CONTEXT/Dockerfile); - for stdin: `file`"),
		listFlag(&f.args, "build-arg", "set an ARG, or take over the host's variable: `name[=value]`"),
		textFlag(&r.Target, "target", "build this `stage` instead of the last one"),
		boolFlag(&r.NoCache, "no-cache", "run every step"),
		boolFlag(&r.Pull, "pull", "ask the registry for every base image"),
		listFlag(&f.labels, "label", "attach a label to the image: `key=value`"),
		textFlag(&r.Network, "network", "network of RUN: default, none or host: `mode`"),
		textFlag(&r.Platform, "platform", "platform of the image (this machine's): `os/arch`"),
		textFlag(&f.progress, "progress", "auto (the default), plain, tty or quiet: `how`"),
		boolFlag(&f.quiet, "quiet,q", "print nothing but the image's id"),
		textFlag(&f.iidFile, "iidfile", "write the image's id into a `file`"),
		boolFlag(&always, "load", "always so: images go into the local store"),
		boolFlag(&always, "rm", "always so: no step leaves a container"),
		boolFlag(&always, "force-rm", "always so"),
	}, refused(laterBuildFlags...)...)
}

// laterBuildFlags are Docker's, refused by name until they are built.
var laterBuildFlags = []string{
	"add-host", "allow", "annotation", "attest", "build-context", "builder", "cache-from", "cache-to", "call",
	"cgroup-parent", "check", "compress", "cpu-period", "cpu-quota", "cpu-shares,c", "cpuset-cpus", "cpuset-mems", "debug",
	"disable-content-trust", "isolation", "memory,m", "memory-swap", "metadata-file", "no-cache-filter", "output,o",
	"provenance", "push", "sbom", "secret", "security-opt", "shm-size", "squash", "ssh", "stream", "ulimit",
}

func (a *app) build(ctx context.Context, f buildFlags, where string) error {
	req, err := a.buildRequest(f, where)
	if err != nil {
		return err
	}
	env, err := a.buildEnv(f.quiet)
	if err != nil {
		return err
	}
	result, err := build.Build(ctx, req, env)
	if err != nil {
		return err
	}
	return a.built(f, req, result)
}

// built tells what came of it: the id on the standard output if nothing else
// is wanted, a line for people otherwise.
func (a *app) built(f buildFlags, req build.Request, result *build.Result) error {
	id := result.Image.ID.String()
	if f.iidFile != "" {
		if err := atomicfile.WriteBeside(f.iidFile, []byte(id), 0o644); err != nil {
			return err
		}
	}
	if f.quiet {
		fmt.Fprintln(a.out, id)
		return nil
	}
	for _, w := range result.Warnings {
		fmt.Fprintf(a.err, "warning: Dockerfile:%d: %s\n", w.Line, visible(w.Text))
	}
	fmt.Fprintf(a.err, "built %s: %d steps run, %d from the cache\n", id, result.Ran, result.Cached)
	for _, tag := range req.Tags {
		fmt.Fprintf(a.err, "tagged %s\n", familiar(tag))
	}
	return nil
}

func (a *app) buildRequest(f buildFlags, where string) (build.Request, error) {
	req := f.req
	var err error
	if req.BuildArgs, err = a.buildArgs(f.args); err != nil {
		return req, err
	}
	if req.Labels, err = pairs(f.labels); err != nil {
		return req, err
	}
	if req.Progress, err = a.buildProgress(f); err != nil {
		return req, err
	}
	return a.buildSources(req, where)
}

// buildSources finds out where context and Dockerfile come from.
func (a *app) buildSources(req build.Request, where string) (build.Request, error) {
	switch {
	case where == "-" && req.Dockerfile != "":
		return req, usage(errdefs.New(errdefs.ErrUnsupported, "a context from the standard input is not supported yet"))
	case strings.Contains(where, "://") || strings.HasPrefix(where, "git@"):
		return req, usage(errdefs.WithHint(errdefs.New(errdefs.ErrUnsupported, "context %s: contexts from elsewhere are not supported yet", where),
			"fetch it into a directory first"))
	case where != "-":
		req.Context = where
	}
	if where != "-" && req.Dockerfile != "-" {
		return req, nil
	}
	text, err := io.ReadAll(io.LimitReader(a.in, maxDockerfile+1))
	if err != nil {
		return req, fmt.Errorf("read the Dockerfile from the standard input: %w", err)
	}
	if where == "-" && strings.ContainsRune(string(text), 0) {
		return req, usage(errdefs.New(errdefs.ErrUnsupported, "a context from the standard input is not supported yet"))
	}
	req.Dockerfile, req.Text = "", text
	return req, nil
}

// maxDockerfile bounds what is read of the standard input, in bytes.
const maxDockerfile = 16 << 20

// buildArgs reads NAME=VALUE entries; NAME alone takes over the host's value.
func (a *app) buildArgs(entries []string) (map[string]string, error) {
	env, err := environment(nil, entries, os.LookupEnv)
	if err != nil {
		return nil, err
	}
	return pairs(env)
}

func (a *app) buildProgress(f buildFlags) (func(build.Event), error) {
	how := orElse(f.progress, orElse(a.env("BUILDKIT_PROGRESS"), "auto"))
	switch {
	case f.quiet, how == "quiet":
		return func(build.Event) {}, nil
	case how == "plain", how == "auto" && (!isTerminal(a.err) || a.env("NO_COLOR") != ""):
		return build.NewPlain(a.err), nil
	case how == "tty", how == "auto":
		return build.NewTerminal(a.err), nil
	}
	return nil, usage(errdefs.New(errdefs.ErrInvalid, "flag --progress: %q is none of auto, plain, tty, quiet", how))
}

// buildEnv opens what a build works with.
func (a *app) buildEnv(quiet bool) (build.Env, error) {
	images, err := a.images()
	if err != nil {
		return build.Env{}, err
	}
	rt, err := a.ociRuntime()
	if err != nil {
		return build.Env{}, err
	}
	net, err := a.network()
	if err != nil {
		return build.Env{}, err
	}
	return build.Env{
		Root: a.root, RunRoot: a.runRoot, Store: images, Runtime: rt, Network: net,
		Pull: func(ctx context.Context, name string, platform ocispec.Platform) (*image.Image, error) {
			client, err := registry.Open()
			if err != nil {
				return nil, err
			}
			req := registry.PullRequest{Name: name, Platform: &platform}
			if !quiet {
				// Lines and not bars: other steps write at the same time.
				p := newProgress(plainWriter{a.err}, "Pulling")
				defer p.finish()
				req.Progress = p
			}
			return client.Pull(ctx, images, req)
		},
	}, nil
}

// plainWriter hides that a writer is a terminal.
type plainWriter struct{ io.Writer }
