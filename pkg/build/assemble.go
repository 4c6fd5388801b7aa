package build

import (
	"encoding/json"
	"fmt"
	"time"

	"box/pkg/build/plan"
	"box/pkg/build/solve"
	"box/pkg/image"
	"box/pkg/image/store"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go/v1"
)

// historyComment marks history entries as those of a Dockerfile. It is
// BuildKit's: scanners and viewers of images know the form by it.
const historyComment = "buildkit.dockerfile.v0"

// assemble makes the image config from the plan and what it came to.
func assemble(p *plan.Plan, solved *solve.Solved) (*store.Built, error) {
	out := solved.Of(p.Result)
	config := *p.Config
	config.Created = created(p, out)
	config.History = history(p, solved)
	config.RootFS = v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}
	for _, l := range out.Layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.DiffID)
	}
	text, err := json.Marshal(config)
	if err != nil {
		return nil, fmt.Errorf("write image config: %w", err)
	}
	if len(text) > image.MaxConfig {
		return nil, fmt.Errorf("write image config: %d bytes are more than an image may have (%d)", len(text), image.MaxConfig)
	}
	return &store.Built{Config: text, Layers: out.Layers}, nil
}

// created is when the image was made: the time of the newest thing in it, so
// that the same contents give the same image whenever they are put together.
func created(p *plan.Plan, out *solve.Outcome) *time.Time {
	if p.Epoch != nil {
		t := time.Unix(*p.Epoch, 0).UTC()
		return &t
	}
	if out.Newest.IsZero() {
		return nil
	}
	t := out.Newest.UTC()
	return &t
}

// history continues the base's history with the entries of the build.
func history(p *plan.Plan, solved *solve.Solved) []v1.History {
	list := append([]v1.History(nil), p.Config.History...)
	last := p.Config.Created
	for _, e := range p.History {
		if e.Op != nil {
			last = created(p, solved.Of(e.Op))
		} else if p.Epoch != nil {
			last = created(p, nil)
		}
		list = append(list, v1.History{Created: last, CreatedBy: e.CreatedBy, Comment: historyComment, EmptyLayer: e.Op == nil})
	}
	return list
}
