package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"box/internal/errdefs"
	"box/pkg/image"
	"box/pkg/image/layer"
	"box/pkg/overlay"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// LayerJob is one layer to fetch and unpack.
type LayerJob struct {
	Descriptor ocispec.Descriptor
	DiffID     digest.Digest
}

// Fetch opens the bytes of a layer blob, from its start. It is called from
// several goroutines at once, only for what is missing.
type Fetch func(ctx context.Context, job LayerJob) (io.ReadCloser, error)

// parallelLayers bounds how many layers are on the way at once. More does not
// help: the disk and the inflating are busy long before.
const parallelLayers = 8

// unpackAll brings all layers into both stores, all at once: each is fetched,
// verified, written as a blob and unpacked from one stream into a directory of
// its own; only then are they joined by chainID, in order. The caller holds the
// store. It returns the chainID of the top layer.
func (s *Store) unpackAll(ctx context.Context, jobs []LayerJob, fetch Fetch) (digest.Digest, error) {
	staged := make([]*overlay.Staged, len(jobs))
	defer func() {
		for _, st := range staged {
			if st != nil {
				_ = st.Discard() // after Commit it does nothing; else Sweep gets it
			}
		}
	}()
	chain := chainOf(jobs)
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelLayers)
	for i, job := range jobs {
		group.Go(func() error {
			var err error
			staged[i], err = s.bring(gctx, job, s.snaps.Has(chain[i]), fetch)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return "", err
	}
	return s.join(chain, staged)
}

// chainOf are the chainIDs of the jobs.
func chainOf(jobs []LayerJob) []digest.Digest {
	diffs := make([]digest.Digest, len(jobs))
	for i, job := range jobs {
		diffs[i] = job.DiffID
	}
	return image.ChainIDs(diffs)
}

// join commits the staged layers in order, each on top of the one before.
func (s *Store) join(chain []digest.Digest, staged []*overlay.Staged) (digest.Digest, error) {
	top := digest.Digest("")
	for i, id := range chain {
		if staged[i] != nil {
			if err := staged[i].Commit(id, top); err != nil {
				return "", err
			}
		}
		top = id
	}
	return top, nil
}

// bring makes one layer present as blob, and, unless it is unpacked already, as
// a staged directory.
func (s *Store) bring(ctx context.Context, job LayerJob, unpacked bool, fetch Fetch) (*overlay.Staged, error) {
	here := s.has(job.Descriptor)
	if here && unpacked {
		return nil, nil
	}
	if here {
		return s.stageBlob(ctx, job)
	}
	body, err := fetch(ctx, job)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	if unpacked {
		_, err := s.Ingest(ctx, body, job.Descriptor.Digest, job.Descriptor.Size)
		return nil, err
	}
	return s.stageStream(ctx, job, body)
}

// stageBlob unpacks a blob of the store. If it turns out to be damaged it is
// removed, so that the next pull fetches it again.
func (s *Store) stageBlob(ctx context.Context, job LayerJob) (*overlay.Staged, error) {
	f, err := s.Blob(job.Descriptor.Digest)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := s.stage(ctx, job, f)
	if errors.Is(err, errdefs.ErrCorrupt) {
		if sum, herr := digest.FromReader(io.NewSectionReader(f, 0, job.Descriptor.Size)); herr == nil && sum != job.Descriptor.Digest {
			_ = os.Remove(f.Name()) // best effort: the error says what is wrong
		}
	}
	return st, err
}

// stageStream unpacks a layer while it arrives and writes the blob from the same
// bytes. Both must be right, or neither stays.
func (s *Store) stageStream(ctx context.Context, job LayerJob, body io.Reader) (*overlay.Staged, error) {
	w, err := s.newBlob(job.Descriptor.Digest, job.Descriptor.Size)
	if err != nil {
		return nil, err
	}
	defer w.abort()
	tee := io.TeeReader(body, w)
	st, err := s.stage(ctx, job, tee)
	if err != nil {
		// A stream that ends early or is altered breaks the unpacking first;
		// what the user needs to know is that the blob was not the promised one.
		return nil, blame(ctx, w, tee, err)
	}
	if _, err := io.Copy(io.Discard, tee); err != nil { // what follows the archive
		return nil, errors.Join(fmt.Errorf("fetch layer %s: %w", job.Descriptor.Digest, err), st.Discard())
	}
	if _, err := w.commit(); err != nil {
		return nil, errors.Join(err, st.Discard())
	}
	return st, nil
}

// blame decides what to report when unpacking a stream has failed: if the
// stream, read to its end, is not the promised blob, that; else the failure.
func blame(ctx context.Context, w *blobWriter, rest io.Reader, failure error) error {
	if ctx.Err() != nil || !errors.Is(failure, errdefs.ErrCorrupt) {
		return failure
	}
	if _, err := io.Copy(io.Discard, rest); err != nil {
		return failure
	}
	if err := w.verify(); err != nil {
		return err
	}
	return failure
}

// stage decompresses and unpacks one layer and verifies its diffID.
func (s *Store) stage(ctx context.Context, job LayerJob, r io.Reader) (*overlay.Staged, error) {
	st, err := s.snaps.Stage(ctx)
	if err != nil {
		return nil, err
	}
	if err := fillStaged(ctx, st, job, r); err != nil {
		return nil, errors.Join(fmt.Errorf("unpack layer %s: %w", job.Descriptor.Digest, err), st.Discard())
	}
	return st, nil
}

// fillStaged does the work of stage.
func fillStaged(ctx context.Context, st *overlay.Staged, job LayerJob, r io.Reader) error {
	tar, err := layer.Decompress(&ctxReader{ctx, r})
	if err != nil {
		return err
	}
	defer tar.Close()
	opt := layer.Options{MaxSize: layer.SizeLimit(job.Descriptor.Size), DiffID: job.DiffID}
	got, err := layer.Unpack(ctx, tar, st.Dir, opt)
	if err != nil {
		return err
	}
	st.Implied, st.Links = got.Implied, got.Links
	return nil
}
