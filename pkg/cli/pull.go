package cli

import (
	"context"

	"box/internal/errdefs"
	"box/pkg/image"
)

func (a *app) pullImage(_ context.Context, name string, _ bool) (*image.Image, error) {
	return nil, errdefs.New(errdefs.ErrUnsupported, "pull %s: not built yet", name)
}
