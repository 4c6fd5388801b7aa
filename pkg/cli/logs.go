package cli

import (
	"context"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"box/internal/errdefs"
	"box/pkg/engine"
)

func (a *app) logsCommand() *cli.Command {
	var o engine.LogOptions
	return &cli.Command{
		Name: "logs", ArgsUsage: "CONTAINER", Category: groupContainer, Usage: "Print what a container has written",
		Flags: append([]cli.Flag{
			boolFlag(&o.Follow, "follow,f", "go on until the container ends"),
			boolFlag(&o.Timestamps, "timestamps,t", "put the time before each line"),
			parsedFlag(&o.Tail, "tail,n", "only the last `lines` (all)", tail),
			parsedFlag(&o.Since, "since", "only from then on: a time, or an age like 10m: `time`", timeOrAge),
			parsedFlag(&o.Until, "until", "only up to then: a time, or an age like 10m: `time`", timeOrAge),
		}, refused("details")...),
		Action: asRoot(func(ctx context.Context, args []string) error {
			e, err := a.engine()
			if err != nil {
				return err
			}
			return e.Logs(ctx, args[0], o, a.out, a.err)
		}),
	}
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

func timeOrAge(v string) (time.Time, error) { return parseTime(v, time.Now()) }

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
