package runtime

import (
	"context"
	"time"

	"box/internal/admit"
	"box/internal/errdefs"
	"box/pkg/cgroups/stats"
	"box/pkg/resctrl"
)

// Event is one line of what events prints, in runc's form.
type Event struct {
	Type string   `json:"type"` // "stats" or "oom"
	ID   string   `json:"id"`
	Data *Figures `json:"data,omitempty"` // of "stats"
}

// Figures are what the kernel counts for a container.
type Figures struct {
	*stats.Stats
	// IntelRdt is empty for containers without linux.intelRdt.
	IntelRdt resctrl.Stats `json:"intel_rdt"`
	// NetworkInterfaces is always null, as with runc for containers whose network an
	// engine has made.
	NetworkInterfaces []struct{} `json:"network_interfaces"`
}

// Stats reads the figures of a container that has not stopped.
func (r *Runtime) Stats(id string) (*Event, error) {
	c, err := r.ready(id, &verbWatch)
	if err != nil {
		return nil, err
	}
	return c.stats()
}

func (c *container) stats() (*Event, error) {
	group, err := c.cgroup()
	if err != nil {
		return nil, err
	}
	figures, err := group.Stats()
	if err != nil {
		return nil, err
	}
	rdt, err := c.resctrlStats()
	if err != nil {
		return nil, err
	}
	return &Event{Type: "stats", ID: c.ID, Data: &Figures{Stats: figures, IntelRdt: rdt}}, nil
}

// Events emits the figures of a container once in each interval, and an event each
// time that it ran out of memory, until its last process is gone, ctx ends or emit
// fails. Figures that cannot be read are a warning: the container may be on its way
// out.
func (r *Runtime) Events(ctx context.Context, id string, interval time.Duration, emit func(*Event) error) error {
	if interval <= 0 {
		return errdefs.New(errdefs.ErrInvalid, "duration interval must be greater than 0")
	}
	c, err := r.ready(id, &verbWatch)
	if err != nil {
		return err
	}
	group, err := c.cgroup()
	if err != nil {
		return err
	}
	admit.Spread() // we stay
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	oom, err := group.WatchOOM(ctx)
	if err != nil {
		return err
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case _, more := <-oom:
			if !more {
				return nil
			}
			err = emit(&Event{Type: "oom", ID: id})
		case <-tick.C:
			err = r.emitStats(c, emit)
		}
		if err != nil {
			return err
		}
	}
}

func (r *Runtime) emitStats(c *container, emit func(*Event) error) error {
	event, err := c.stats()
	if err != nil {
		r.warn(err.Error())
		return nil
	}
	return emit(event)
}
