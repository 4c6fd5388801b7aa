package registry

import (
	"context"
	"errors"
	"io"
	"time"

	"box/internal/errdefs"
)

// stall is how long a transfer may stand still before the connection counts as
// broken. A registry that sends one byte a minute keeps it, but then the user
// sees the bar.
var stall = 60 * time.Second // varies in tests

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
		w.cancel(errStalled)
	})
	return w
}

// fed says that something has arrived.
func (w *watchdog) fed() { w.timer.Reset(stall) }

// errStalled is why a watchdog has ended a transfer.
var errStalled = errors.New("nothing has arrived")

// watched feeds a watchdog with what is read.
type watched struct {
	io.Reader
	watch *watchdog
}

// Read reads on.
func (r *watched) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.watch.fed()
	return n, err
}

// explain is the error of a transfer: that the dog has ended it, if it has.
func (w *watchdog) explain(e endpoint, err error) error {
	if err != nil && errors.Is(context.Cause(w.ctx), errStalled) {
		return errdefs.New(errdefs.ErrUnavailable, "registry %s: nothing has arrived for %s", e.host, stall)
	}
	return explain(e, err)
}

// stop ends the watch.
func (w *watchdog) stop() {
	w.timer.Stop()
	w.cancel(nil)
}
