package registry

import (
	"context"
	"time"

	"box/internal/errdefs"
)

// stall is how long a transfer may stand still before the connection counts as
// broken. A registry that sends one byte a minute keeps it, but then the user
// sees the bar.
const stall = 60 * time.Second

// watchdog cancels a transfer that stands still: TCP alone would wait for ever
// when the other side has vanished without a word.
type watchdog struct {
	ctx    context.Context //nolint:containedctx // it is what the dog guards
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

// newWatchdog starts one.
func newWatchdog(parent context.Context) *watchdog {
	w := &watchdog{}
	w.ctx, w.cancel = context.WithCancelCause(parent)
	w.timer = time.AfterFunc(stall, func() {
		w.cancel(errdefs.New(errdefs.ErrUnavailable, "nothing has arrived for %s", stall))
	})
	return w
}

// fed says that something has arrived.
func (w *watchdog) fed() { w.timer.Reset(stall) }

// stop ends the watch.
func (w *watchdog) stop() {
	w.timer.Stop()
	w.cancel(nil)
}
