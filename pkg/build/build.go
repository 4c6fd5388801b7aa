package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"box/pkg/build/cache"
	"box/pkg/build/dockerfile"
	"box/pkg/build/plan"
	"box/pkg/build/solve"
	"box/pkg/image"
	"box/pkg/image/store"
	"box/pkg/ocirt"
	"box/pkg/record"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go/v1"
)

// Request is one build.
type Request struct {
	// Context is the directory that COPY reads; empty for a build without one.
	Context string
	// Dockerfile is the path of the Dockerfile; empty for "Dockerfile" in the context.
	Dockerfile string
	// Text, if not nil, is the Dockerfile itself.
	Text []byte
	// Tags are names for the image.
	Tags []string
	// BuildArgs are values for ARG, Labels are added to the image.
	BuildArgs, Labels map[string]string
	// Target is the stage to build; empty for the last.
	Target string
	// Platform is what the image is for; empty for that of the host.
	Platform string
	// NoCache runs every step, Pull asks the registry for every base image.
	NoCache, Pull bool
	// Network is that of RUN: "default" or empty, "none", or "host", which also
	// permits RUN --network=host.
	Network string
	// Progress takes what happens, one event at a time; nil if nobody listens.
	Progress func(Event)
}

// Event is one thing that happened in a build.
type Event = solve.Event

// RunError is a command of the build that failed; see errors.As.
type RunError = solve.RunError

// Network is what connects RUN steps; *network.Manager implements it.
type Network = solve.Network

// Warning is a finding about the Dockerfile that did not stop the build.
type Warning = dockerfile.Warning

// Env is what builds work with.
type Env struct {
	// Root and RunRoot are the data root and the run root.
	Root, RunRoot string
	Store         *store.Store
	Runtime       ocirt.Runtime
	// Network may be nil: then RUN works with --network none or host only.
	Network Network
	// Pull fetches an image that is not in the store, or again for
	// Request.Pull. Nil if nothing can be fetched.
	Pull func(ctx context.Context, name string, platform v1.Platform) (*image.Image, error)
}

// Result is a finished build.
type Result struct {
	Image *image.Image
	// Ran and Cached count the steps.
	Ran, Cached int
	Warnings    []Warning
}

// cacheDir is the directory of the build cache in the data root.
func cacheDir(root string) string { return filepath.Join(root, "build") }

// CacheRoots lists the layers that the build cache under a data root refers
// to, for store.Store.Roots.
func CacheRoots(root string) func(context.Context) ([]digest.Digest, error) {
	return func(ctx context.Context) ([]digest.Digest, error) {
		c, err := cache.Open(cacheDir(root))
		if err != nil {
			return nil, err
		}
		return c.Roots(ctx)
	}
}

// open gives the environment of the solver.
func (e Env) open() (solve.Env, error) {
	c, err := cache.Open(cacheDir(e.Root))
	if err != nil {
		return solve.Env{}, err
	}
	records, err := record.OpenStore(e.Root, e.RunRoot)
	if err != nil {
		return solve.Env{}, err
	}
	return solve.Env{Store: e.Store, Records: records, Cache: c, Runtime: e.Runtime, Network: e.Network}, nil
}

// Sweep removes what killed builds have left. It costs two directory listings
// when there is nothing.
func Sweep(ctx context.Context, env Env) error {
	s, err := env.open()
	if err != nil {
		return err
	}
	return solve.Sweep(ctx, s)
}

// Build makes an image. Errors about the Dockerfile, a failing command's
// included, carry file, line and excerpt (*dockerfile.Error).
func Build(ctx context.Context, req Request, env Env) (*Result, error) {
	if err := req.check(); err != nil {
		return nil, err
	}
	senv, err := env.open()
	if err != nil {
		return nil, err
	}
	if err := solve.Sweep(ctx, senv); err != nil {
		return nil, err
	}
	src, err := req.open()
	if err != nil {
		return nil, err
	}
	defer src.close()
	release, err := env.Store.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	b := &building{req: req, env: env, senv: senv, src: src, bases: newBases(req, env)}
	return b.run(ctx)
}

// building is one build in progress.
type building struct {
	req   Request
	env   Env
	senv  solve.Env
	src   *source
	bases *bases
}

func (b *building) run(ctx context.Context) (*Result, error) {
	opts, err := b.req.planOptions()
	if err != nil {
		return nil, err
	}
	refs, err := plan.Images(b.src.file, opts)
	if err != nil {
		return nil, err
	}
	b.bases.prefetch(ctx, refs)
	p, err := plan.New(ctx, b.src.file, opts, b.bases.resolve)
	if err != nil {
		return nil, err
	}
	solved, err := solve.Solve(ctx, b.senv, solve.Job{
		Plan: p, Images: b.bases.images(), Context: b.src.dir, ContextKey: b.src.key, Ignore: b.src.ignore,
		NoCache: b.req.NoCache, AllowHostNetwork: b.req.Network == "host", Report: b.req.Progress,
	})
	if err != nil {
		return nil, b.locate(ctx, err)
	}
	built, err := assemble(p, solved)
	if err != nil {
		return nil, err
	}
	built.Names = b.req.Tags
	img, err := b.env.Store.AddBuilt(ctx, *built)
	if err != nil {
		return nil, err
	}
	return &Result{Image: img, Ran: solved.Ran, Cached: solved.Cached, Warnings: p.Warnings}, nil
}

// locate puts the line of the failed instruction before the error.
func (b *building) locate(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("build cancelled: %w", cause)
	}
	var step *solve.StepError
	if errors.As(err, &step) {
		return b.src.file.ErrorAt(step.Op.Pos, step.Err)
	}
	return err
}

// planOptions gives what the planner needs of the request.
func (r Request) planOptions() (plan.Options, error) {
	o := plan.Options{
		Target: r.Target, BuildArgs: r.BuildArgs, Labels: r.Labels,
		Platform: image.Host(), BuildPlatform: image.Host(),
	}
	if r.Network != "" {
		o.Network = r.Network
	}
	if r.Platform == "" {
		return o, nil
	}
	var err error
	o.Platform, err = image.ParsePlatform(r.Platform)
	return o, err
}

// source is what a build is made from, as it lies on disk.
type source struct {
	file   *dockerfile.File
	dir    *os.File // the context; nil if there is none
	key    digest.Digest
	ignore []string
}

func (s *source) close() {
	if s.dir != nil {
		s.dir.Close()
	}
}
