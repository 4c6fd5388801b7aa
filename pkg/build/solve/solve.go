package solve

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"box/internal/errdefs"
	"box/pkg/build/cache"
	"box/pkg/build/plan"
	"box/pkg/image"
	"box/pkg/image/store"
	"box/pkg/network"
	"box/pkg/ocirt"
	"box/pkg/record"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"
)

// Network connects the containers of RUN steps. *network.Manager implements it.
type Network interface {
	Attach(ctx context.Context, netns *os.File, ep network.Endpoint) (*network.Lease, error)
	Detach(ctx context.Context, containerID string) error
	Settle(ctx context.Context, grace time.Duration) error
}

var _ Network = (*network.Manager)(nil)

// Env is what a build works with.
type Env struct {
	Store   *store.Store
	Records *record.Store // locks and run directories
	Cache   *cache.Cache
	Runtime ocirt.Runtime
	Network Network // may be nil; then RUN steps with a network fail
}

// Job is one build to solve.
type Job struct {
	Plan *plan.Plan
	// Images are the base images of the plan, by ID.
	Images map[digest.Digest]*image.Image
	// Context is the directory of the build context; nil if there is none.
	Context *os.File
	// ContextKey identifies the context across builds.
	ContextKey digest.Digest
	// Ignore are the patterns of .dockerignore.
	Ignore []string
	// NoCache runs every step although results may be there.
	NoCache bool
	// AllowHostNetwork permits RUN --network=host.
	AllowHostNetwork bool
	// Report takes the events, one at a time; nil if nobody listens.
	Report func(Event)
}

// Outcome is a file system: the layers that make it up.
type Outcome struct {
	// Layers are all layers, those of the base image included, base first.
	Layers []store.BuiltLayer
	// Newest is the time of the newest thing in it: of files in layers that were
	// built, and of the base image.
	Newest time.Time
}

// Chain is the chainID of the outcome; empty for nothing at all.
func (o *Outcome) Chain() digest.Digest {
	if len(o.Layers) == 0 {
		return ""
	}
	return o.Layers[len(o.Layers)-1].ChainID
}

// Solved holds the outcome of every operation.
type Solved struct {
	outcomes []*Outcome // by Op.Index
	// Ran and Cached count the steps.
	Ran, Cached int
}

// Of gives the outcome of an operation of the plan.
func (s *Solved) Of(op *plan.Op) *Outcome { return s.outcomes[op.Index] }

// solver is one build in progress.
type solver struct {
	env     Env
	job     Job
	events  reporter
	context *tree
	stubs   string
	workers chan struct{}
	flight  singleflight.Group
	nodes   []*vertex

	mu          sync.Mutex
	ran, cached int
	usedNetwork bool
}

// vertex is an operation in progress; done is closed when outcome stands.
type vertex struct {
	done    chan struct{}
	outcome *Outcome
}

// minWorkers is how many steps may work at once on a small machine: they often
// wait for a network or a disk.
const minWorkers = 4

// Solve carries out the plan. On failure it gives the first error; steps that
// succeeded before it stay cached.
func Solve(ctx context.Context, env Env, job Job) (*Solved, error) {
	s := &solver{env: env, job: job, workers: make(chan struct{}, max(minWorkers, runtime.NumCPU()))}
	s.events.sink = job.Report
	if err := s.prepare(); err != nil {
		return nil, err
	}
	group, gctx := errgroup.WithContext(ctx)
	for range job.Plan.Ops {
		s.nodes = append(s.nodes, &vertex{done: make(chan struct{})})
	}
	for _, op := range job.Plan.Ops {
		group.Go(func() error { return s.visit(gctx, op) })
	}
	err := group.Wait()
	return s.finish(ctx, err)
}

// prepare opens the context and makes the mount points for RUN steps.
func (s *solver) prepare() error {
	if s.job.Context != nil {
		ignore, err := newIgnorer(s.job.Ignore)
		if err != nil {
			return fmt.Errorf(".dockerignore: %w", err)
		}
		s.context = newTree("the build context", s.job.Context)
		s.context.ignore = ignore
		s.context.memo = s.env.Cache.Memo(s.job.ContextKey)
	}
	var err error
	s.stubs, err = makeStubs(s.env.Cache.Dir())
	return err
}

// makeStubs makes the directory of mount points, see overlay.Active.MountOver.
func makeStubs(dir string) (string, error) {
	stubs := filepath.Join(dir, "mountpoints")
	for _, d := range []string{"proc", "sys", "dev", "etc"} {
		if err := os.MkdirAll(filepath.Join(stubs, d), 0o755); err != nil {
			return "", err
		}
	}
	for _, name := range []string{"etc/resolv.conf", "etc/hosts"} {
		f, err := os.OpenFile(filepath.Join(stubs, name), os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return "", err
		}
		if err := f.Close(); err != nil {
			return "", err
		}
	}
	return stubs, nil
}

// finish writes the memo, settles the network and collects the outcomes.
func (s *solver) finish(ctx context.Context, err error) (*Solved, error) {
	if s.context != nil {
		err = errors.Join(err, s.context.memo.Save())
	}
	if s.usedNetwork {
		// Nothing depends on it: whoever uses the network next settles it again.
		_ = s.env.Network.Settle(context.WithoutCancel(ctx), 0)
	}
	if err != nil {
		return nil, err
	}
	out := &Solved{Ran: s.ran, Cached: s.cached}
	for _, v := range s.nodes {
		out.outcomes = append(out.outcomes, v.outcome)
	}
	return out, nil
}

// visit waits for the inputs of an operation and solves it.
func (s *solver) visit(ctx context.Context, op *plan.Op) error {
	for _, in := range op.Inputs() {
		select {
		case <-s.nodes[in.Index].done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	out, err := s.solve(ctx, op)
	if err != nil {
		return &StepError{Op: op, Err: err}
	}
	v := s.nodes[op.Index]
	v.outcome = out
	close(v.done)
	return nil
}

// StepError says which operation failed.
type StepError struct {
	Op  *plan.Op
	Err error
}

// Error names the step.
func (e *StepError) Error() string { return fmt.Sprintf("%s: %v", e.Op.Name, e.Err) }

// Unwrap gives the cause.
func (e *StepError) Unwrap() error { return e.Err }

func (s *solver) solve(ctx context.Context, op *plan.Op) (*Outcome, error) {
	switch op.Kind {
	case plan.KindScratch:
		return &Outcome{}, nil
	case plan.KindImage:
		img := s.job.Images[op.Image.ID]
		if img == nil {
			return nil, errdefs.New(errdefs.ErrNotFound, "image %s was not resolved", op.Image.Name)
		}
		s.events.report(op, Cached, "", 0)
		return &Outcome{Layers: store.BaseLayers(img), Newest: img.Created()}, nil
	}
	return s.step(ctx, op)
}

// unpacked makes sure that a file system can be mounted. Different steps may
// ask for the same one at once.
func (s *solver) unpacked(ctx context.Context, o *Outcome) error {
	if len(o.Layers) == 0 {
		return nil
	}
	_, err, _ := s.flight.Do("unpack "+o.Chain().String(), func() (any, error) {
		return s.env.Store.UnpackChain(ctx, o.Layers)
	})
	return err
}

// acquire waits until the step may work.
func (s *solver) acquire(ctx context.Context) error {
	select {
	case s.workers <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *solver) release() { <-s.workers }
