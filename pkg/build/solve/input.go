package solve

import (
	"context"
	"fmt"
	"os"

	"box/pkg/build/cache"
	"box/pkg/build/plan"

	"github.com/opencontainers/go-digest"
)

// input is what a copy reads. Its files are looked at only when they have to
// be: what a selection of a snapshot holds never changes, so its digest is
// remembered for good.
type input struct {
	*solver
	op   *plan.Op
	from *Outcome // nil for the context

	view   *os.File
	tree   *tree
	picks  []pick
	loaded bool
	sum    digest.Digest // of the contents
}

func (s *solver) input(op *plan.Op) *input {
	in := &input{solver: s, op: op}
	if op.From != nil {
		in.from = s.nodes[op.From.Index].outcome
	}
	return in
}

func (in *input) close() {
	if in.view != nil {
		in.view.Close()
	}
}

// content gives the digest of the files.
func (in *input) content(ctx context.Context) (digest.Digest, error) {
	var err error
	in.sum, err = in.computeContent(ctx)
	return in.sum, err
}

func (in *input) computeContent(ctx context.Context) (digest.Digest, error) {
	if in.from == nil {
		_, _, err := in.files(ctx)
		if err != nil {
			return "", err
		}
		return in.tree.contentDigest(in.picks), nil
	}
	selection := digestOf(keyVersion, in.from.Chain(), in.op.Copy.Sources, in.op.Copy.Exclude)
	if d, ok := in.env.Cache.Content(selection); ok {
		return d, nil
	}
	if _, _, err := in.files(ctx); err != nil {
		return "", err
	}
	d := in.tree.contentDigest(in.picks)
	return d, in.env.Cache.StoreContent(selection, d)
}

// files selects and sums the files.
func (in *input) files(ctx context.Context) (*tree, []pick, error) {
	if in.loaded {
		return in.tree, in.picks, nil
	}
	if err := in.open(ctx); err != nil {
		return nil, nil, err
	}
	picks, err := in.tree.selectFiles(ctx, in.op.Copy)
	if err != nil {
		return nil, nil, err
	}
	if err := in.tree.sumFiles(ctx, picks); err != nil {
		return nil, nil, err
	}
	in.picks, in.loaded = picks, true
	return in.tree, picks, nil
}

// open opens the context or a view of the snapshot.
func (in *input) open(ctx context.Context) error {
	if in.from == nil {
		in.tree = in.context
		return nil
	}
	if err := in.unpacked(ctx, in.from); err != nil {
		return err
	}
	view, err := in.env.Store.Overlay().View(in.from.Chain())
	if err != nil {
		return err
	}
	in.view = view
	in.tree = newTree(fmt.Sprintf("%q", in.op.FromName), view)
	in.tree.owners = true
	return nil
}

// parts lists what is read, for people: the files of the context by name, a
// stage or image as a whole.
func (in *input) parts(p cache.Parts) {
	if in.from != nil {
		p["what is copied from "+in.op.FromName] = short(in.sum.String())
		return
	}
	for i := range in.picks {
		for j := range in.picks[i].items {
			it := &in.picks[i].items[j]
			p["file "+it.path] = short(digestOf(it.st.Mode, it.link, it.sum[:8]).String())
		}
	}
}
