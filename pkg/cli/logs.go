package cli

import (
	"context"
	"strconv"
	"time"

	"box/internal/errdefs"
	"box/pkg/cli/argv"
	"box/pkg/engine"
)

func logsCommand() *command {
	c := &command{name: "logs", operands: "CONTAINER", summary: "Print what a container has written", min: 1, max: 1}
	var o engine.LogOptions
	c.flags.Bool(&o.Follow, "follow", 'f', "go on until the container ends")
	c.flags.Bool(&o.Timestamps, "timestamps", 't', "put the time before each line")
	c.flags.Add(argv.Flag{Name: "tail", Short: 'n', Value: "lines", Usage: "only the last lines (all)"}, func(v string) error {
		var err error
		o.Tail, err = tail(v)
		return err
	})
	timeFlag(&c.flags, &o.Since, "since", "only from then on: a time, or an age like 10m")
	timeFlag(&c.flags, &o.Until, "until", "only up to then: a time, or an age like 10m")
	c.flags.Refuse("details")
	c.run = func(ctx context.Context, a *app, args []string) error {
		e, err := a.engine()
		if err != nil {
			return err
		}
		return e.Logs(ctx, args[0], o, a.out, a.err)
	}
	return c
}

// tail reads --tail: a number, or "all".
func tail(v string) (*int, error) {
	if v == "all" {
		return nil, nil //nolint:nilnil // nil is the value for all
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		return nil, errdefs.New(errdefs.ErrInvalid, "%q is neither a number nor all", v)
	}
	if n < 0 {
		return nil, nil //nolint:nilnil // as Docker does
	}
	return &n, nil
}

func timeFlag(s *argv.Set, p *time.Time, name, usage string) {
	s.Add(argv.Flag{Name: name, Value: "time", Usage: usage}, func(v string) error {
		t, err := parseTime(v, time.Now())
		*p = t
		return err
	})
}

// timeLayouts are the forms of a point in time that Docker reads; the ones
// without a zone mean local time.
var timeLayouts = []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02"}

// parseTime reads an age (10m, 1h30m), seconds since 1970 with a fraction, or a
// date.
func parseTime(v string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(v); err == nil {
		return now.Add(-d), nil
	}
	if f, err := strconv.ParseFloat(v, 64); err == nil {
		return time.UnixMicro(int64(f * 1e6)), nil
	}
	for _, layout := range timeLayouts {
		if t, err := time.ParseInLocation(layout, v, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errdefs.New(errdefs.ErrInvalid, "%q is neither a time nor an age", v)
}
