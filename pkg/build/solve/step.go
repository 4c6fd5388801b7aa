package solve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"box/internal/errdefs"
	"box/pkg/build/cache"
	"box/pkg/build/plan"
	"box/pkg/image"
	"box/pkg/image/store"
	"box/pkg/spec/gen"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// keyVersion changes when the meaning of a key changes: older results are then
// not found any more.
const keyVersion = "box build 1"

// step is an operation that makes a layer, while it is worked on.
type step struct {
	*solver
	op   *plan.Op
	base *Outcome
	from *input // what a copy reads; nil if it reads nothing
	key  digest.Digest
}

// step finds the result of an operation or makes it.
func (s *solver) step(ctx context.Context, op *plan.Op) (*Outcome, error) {
	st := &step{solver: s, op: op, base: s.nodes[op.Base.Index].outcome}
	if op.Kind == plan.KindCopy && len(op.Copy.Sources) > 0 {
		st.from = s.input(op)
		defer st.from.close()
	}
	if err := st.makeKey(ctx); err != nil {
		s.events.report(op, Started, "", 0)
		s.events.report(op, Failed, err.Error(), 0)
		return nil, err
	}
	if r := st.lookup(); r != nil {
		s.count(&s.cached)
		s.events.report(op, Cached, "", 0)
		return st.outcome(r), nil
	}
	return st.make(ctx)
}

func (s *solver) count(n *int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*n++
}

// outcome puts a layer on top of the base.
func (st *step) outcome(r *cache.Result) *Outcome {
	layers := append([]store.BuiltLayer(nil), st.base.Layers...)
	return &Outcome{Layers: append(layers, r.Layer), Newest: r.Newest}
}

// makeKey computes the cache key: definition, base, and contents of a copy.
func (st *step) makeKey(ctx context.Context) error {
	content := digest.Digest("")
	if st.from != nil {
		var err error
		if content, err = st.from.content(ctx); err != nil {
			return err
		}
	}
	st.key = digestOf(keyVersion, st.op.Kind, st.op.Spec(), st.base.Chain(), content)
	return nil
}

// digestOf gives the digest of values as JSON.
func digestOf(values ...any) digest.Digest {
	text, err := json.Marshal(values)
	if err != nil {
		// Only strings, numbers and lists of them are passed here.
		panic(fmt.Sprintf("marshal key: %v", err))
	}
	return digest.FromBytes(text)
}

// lookup gives an earlier result if it is complete: its blob is in the store
// and fits on the base.
func (st *step) lookup() *cache.Result {
	if st.job.NoCache {
		return nil
	}
	r, ok := st.env.Cache.Lookup(st.key)
	if !ok {
		return nil
	}
	fits := r.Layer.ChainID == image.ChainID(st.base.Chain(), r.Layer.DiffID)
	if fits && st.env.Store.Has(r.Layer.Descriptor.Digest) {
		return r
	}
	_ = st.env.Cache.Forget(st.key) // it is overwritten soon
	return nil
}

// make does the work of the step, once for all steps of the same key.
func (st *step) make(ctx context.Context) (*Outcome, error) {
	first := false
	v, err, _ := st.flight.Do(st.key.String(), func() (any, error) {
		first = true
		return st.work(ctx)
	})
	if err != nil {
		return nil, err
	}
	if !first {
		st.count(&st.cached)
		st.events.report(st.op, Cached, "", 0)
	}
	return st.outcome(v.(*cache.Result)), nil
}

// work reports and times the step.
func (st *step) work(ctx context.Context) (*cache.Result, error) {
	if err := st.acquire(ctx); err != nil {
		return nil, err
	}
	defer st.release()
	parts := st.parts()
	st.events.report(st.op, Started, st.reason(parts), 0)
	st.count(&st.ran)
	began := time.Now()
	r, err := st.layer(ctx)
	took := time.Since(began)
	if err == nil {
		r.Name, r.Took = st.op.Name, took
		err = st.keep(r, parts)
	}
	switch {
	case err == nil:
		st.events.report(st.op, Done, "", took)
		return r, nil
	case ctx.Err() != nil:
		st.events.report(st.op, Cancelled, "", took)
	default:
		st.events.report(st.op, Failed, err.Error(), took)
	}
	return nil, err
}

// keep writes the result down, and then of what it was made: a note without a result
// would have the next build say that the result is gone.
func (st *step) keep(r *cache.Result, parts cache.Parts) error {
	if err := st.env.Cache.Store(st.key, r); err != nil {
		return err
	}
	return st.env.Cache.NoteStep(st.slot(), parts)
}

// layer makes the layer.
func (st *step) layer(ctx context.Context) (*cache.Result, error) {
	if err := st.unpacked(ctx, st.base); err != nil {
		return nil, err
	}
	w, err := st.newWorkspace(st.base.Chain())
	if err != nil {
		return nil, err
	}
	r, err := st.commit(ctx, w)
	return r, errors.Join(err, w.remove())
}

func (st *step) commit(ctx context.Context, w *workspace) (*cache.Result, error) {
	if err := st.change(ctx, w); err != nil {
		return nil, err
	}
	newest, err := newestIn(w.active.Upper(), st.base.Newest)
	if err != nil {
		return nil, err
	}
	l, err := st.env.Store.CommitLayer(ctx, w.active)
	if err != nil {
		return nil, err
	}
	return &cache.Result{Layer: l, Newest: newest}, nil
}

// change carries the operation out on the workspace.
func (st *step) change(ctx context.Context, w *workspace) error {
	switch st.op.Kind {
	case plan.KindRun:
		return st.run(ctx, w)
	case plan.KindCopy:
		return st.copy(ctx, w)
	case plan.KindWorkdir:
		return st.workdir(w)
	}
	return errdefs.New(errdefs.ErrUnsupported, "operation %s is not supported", st.op.Kind)
}

func (st *step) run(ctx context.Context, w *workspace) error {
	switch st.op.Run.Network {
	case "default":
		st.mu.Lock()
		st.usedNetwork = true
		st.mu.Unlock()
	case "host":
		if !st.job.AllowHostNetwork {
			return errdefs.WithHint(errdefs.New(errdefs.ErrInvalid, "RUN --network=host is not permitted"),
				"it gives the step the network of this host; if you trust the Dockerfile, build with --network host")
		}
	}
	return st.execute(ctx, st.op, w)
}

func (st *step) copy(ctx context.Context, w *workspace) error {
	root, err := w.active.Volatile().Detached()
	if err != nil {
		return err
	}
	defer root.Close()
	var t *tree
	var picks []pick
	if st.from != nil {
		if t, picks, err = st.from.files(ctx); err != nil {
			return err
		}
	}
	c, err := newCopier(st.op.Copy, root, t, st.stamp())
	if err != nil {
		return err
	}
	return c.run(ctx, picks)
}

func (st *step) workdir(w *workspace) error {
	root, err := w.active.Volatile().Detached()
	if err != nil {
		return err
	}
	defer root.Close()
	s := newSink(root, st.stamp())
	defer s.close()
	if user := st.op.Workdir.User; user != "" {
		u, _, err := gen.ResolveUser(root, user)
		if err != nil {
			return err
		}
		s.owner = &owner{int(u.UID), int(u.GID)}
	}
	dir, err := s.follow(st.op.Workdir.Path)
	if err != nil {
		return err
	}
	if _, err := s.mkdirAll(dir); err != nil {
		return err
	}
	return s.finish()
}

// oldest is the time of what has no source, when not even the base has a time:
// the first that every archive format can express.
var oldest = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// stamp is the time that files and directories without a source get. It must
// not be the clock's, or a layer would never be the same twice.
func (st *step) stamp() unix.Timespec {
	t := st.base.Newest
	if e := st.job.Plan.Epoch; e != nil {
		t = time.Unix(*e, 0)
	}
	if t.IsZero() {
		t = oldest
	}
	return unix.NsecToTimespec(t.UnixNano())
}

// newestIn gives the newest modification time in a directory, at least floor
// and at most now: a file from the future does not date the image.
func newestIn(dir string, floor time.Time) (time.Time, error) {
	newest, now := floor, time.Now()
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if t := info.ModTime(); t.After(newest) && !t.After(now) && e.Type()&os.ModeCharDevice == 0 {
			newest = t
		}
		return nil
	})
	return newest.UTC(), err
}

// slot names the step across builds: the same place in the same Dockerfile.
func (st *step) slot() digest.Digest {
	return digestOf(st.job.ContextKey, st.op.Step)
}

// reason says why no earlier result served, compared with the last time.
func (st *step) reason(now cache.Parts) string {
	if st.job.NoCache {
		return "the cache is off"
	}
	before, ok := st.env.Cache.StepParts(st.slot())
	if !ok {
		return ""
	}
	if why := cache.Explain(before, now); why != "" {
		return why
	}
	return "its result is gone"
}

// parts lists what the step is made of, for people.
func (st *step) parts() cache.Parts {
	p := cache.Parts{"the step before": short(st.base.Chain().String())}
	switch st.op.Kind {
	case plan.KindRun:
		r := st.op.Run
		p["command"] = strings.Join(r.Args, " ")
		if r.Script != nil {
			p["command"] = short(digest.FromString(r.Script.Data).String())
		}
		p["user"], p["working directory"], p["network"] = r.User, r.Cwd, r.Network
		for _, kv := range r.Env {
			name, value, _ := strings.Cut(kv, "=")
			// A digest: values may be secrets, and this goes to a file.
			p["variable "+name] = short(digest.FromString(value).String())
		}
	case plan.KindCopy:
		c := *st.op.Copy
		c.Inline = nil
		p["instruction"] = short(digestOf(c).String())
		for _, f := range st.op.Copy.Inline {
			p["text "+f.Name] = short(digest.FromString(f.Data).String())
		}
		if st.from != nil {
			st.from.parts(p)
		}
	case plan.KindWorkdir:
		p["path"], p["user"] = st.op.Workdir.Path, st.op.Workdir.User
	}
	return p
}

// short cuts a digest to what is enough to see a difference.
func short(d string) string {
	d = strings.TrimPrefix(d, "sha256:")
	return d[:min(len(d), 16)]
}
