package cli

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"box/internal/errdefs"
	"box/pkg/record"
)

func (a *app) psCommand() *cli.Command {
	var o psOptions
	return &cli.Command{
		Name: "ps", Category: groupContainer, Usage: "List containers",
		Flags: append([]cli.Flag{
			boolFlag(&o.all, "all,a", "list those that do not run, too"),
			boolFlag(&o.quiet, "quiet,q", "print ids only"),
			boolFlag(&o.latest, "latest,l", "only the newest container"),
			parsedFlag(&o.last, "last,n", "only the newest `n` containers", number),
			boolFlag(&o.noTrunc, "no-trunc", "do not shorten ids and commands"),
			listFlag(&o.filters, "filter,f", "only some: by id, name, label, status, ancestor: `key=value`"),
			textFlag(&o.format, "format", "print by a Go `template`, table TEMPLATE, or json"),
		}, refused("size,s")...),
		Action: asRoot(func(ctx context.Context, _ []string) error { return a.ps(ctx, o) }),
	}
}

type psOptions struct {
	all, quiet, latest, noTrunc bool
	last                        int
	filters                     []string
	format                      string
}

// psRow has the names that Docker's templates use.
type psRow struct {
	ID, Image, Command, CreatedAt, RunningFor, Ports, State, Status, Names, Labels, Mounts, Networks string

	labels map[string]string
}

// Label returns the value of one label.
func (r psRow) Label(key string) string { return r.labels[key] }

var psHeaders = map[string]string{
	"ID": "CONTAINER ID", "Image": "IMAGE", "Command": "COMMAND", "CreatedAt": "CREATED AT", "RunningFor": "CREATED",
	"Ports": "PORTS", "State": "STATE", "Status": "STATUS", "Names": "NAMES", "Labels": "LABELS", "Mounts": "MOUNTS",
	"Networks": "NETWORKS",
}

func (a *app) ps(ctx context.Context, o psOptions) error {
	e, err := a.engine()
	if err != nil {
		return err
	}
	match, byStatus, err := parseFilters(o.filters)
	if err != nil {
		return usage(err)
	}
	all := o.all || o.latest || o.last > 0 || byStatus
	if err := a.sweep(ctx); err != nil {
		return err
	}
	list, err := e.List(ctx, all)
	if err != nil {
		return err
	}
	var found []psRow
	for _, r := range list {
		if match(r) {
			found = append(found, newPsRow(r, time.Now(), o.noTrunc))
		}
	}
	if o.latest {
		o.last = 1
	}
	if o.last > 0 && len(found) > o.last {
		found = found[:o.last]
	}
	return a.printPs(found, o)
}

func (a *app) printPs(found []psRow, o psOptions) error {
	switch {
	case o.quiet:
		for _, r := range found {
			fmt.Fprintln(a.out, r.ID)
		}
		return nil
	case o.format != "" && o.format != "table":
		return rows(a.out, o.format, psHeaders, found)
	}
	t := newTable(a.out, "CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES")
	for _, r := range found {
		t.row(r.ID, r.Image, r.Command, r.RunningFor, r.Status, r.Ports, r.Names)
	}
	return t.flush()
}

func newPsRow(r *record.Record, now time.Time, full bool) psRow {
	id, command := r.ID, strconv.Quote(strings.Join(r.Config.Args(), " "))
	if !full {
		id, command = shortID(id), strconv.Quote(ellipsis(strings.Join(r.Config.Args(), " "), 20))
	}
	row := psRow{
		ID: id, Image: imageLabel(r), Command: command,
		CreatedAt: r.Created.Local().Format("2006-01-02 15:04:05 -0700 MST"), RunningFor: ago(now, r.Created),
		Ports: ports(r), State: string(r.State.Status), Status: status(r.State, now),
		Names: r.Name, Networks: r.Host.NetworkMode, labels: r.Config.Labels,
	}
	for k, v := range r.Config.Labels {
		row.Labels = joinSorted(row.Labels, k+"="+v)
	}
	for _, m := range r.Host.Mounts {
		row.Mounts = joinSorted(row.Mounts, orElse(m.Name, m.Source))
	}
	return row
}

// joinSorted adds an entry to a comma-separated list and keeps it sorted.
func joinSorted(list, entry string) string {
	if list == "" {
		return entry
	}
	all := append(strings.Split(list, ","), entry)
	slices.Sort(all)
	return strings.Join(all, ",")
}

// imageLabel is the image as the user named it, or its short id.
func imageLabel(r *record.Record) string {
	if strings.HasPrefix(r.Image.Name, "sha256:") || r.Image.Name == "" {
		return shortID(r.Image.ID.String())
	}
	return r.Image.Name
}

// status is the column that people read.
func status(s record.State, now time.Time) string {
	switch s.Status {
	case record.Running:
		return "Up " + since(now.Sub(s.StartedAt))
	case record.Exited:
		return fmt.Sprintf("Exited (%d) %s", s.ExitCode, ago(now, s.FinishedAt))
	case record.Created:
		return "Created"
	case record.Removing:
		return "Removal In Progress"
	}
	return "Dead"
}

// ports lists published and declared ports, with runs of neighbours drawn
// together as Docker does: 0.0.0.0:8000-8002->80-82/tcp.
func ports(r *record.Record) string {
	published := slices.Clone(r.Network.Ports)
	slices.SortFunc(published, func(a, b record.Port) int {
		return strings.Compare(portKey(a), portKey(b))
	})
	var parts []string
	for i := 0; i < len(published); {
		j := i + 1
		for j < len(published) && follows(published[j-1], published[j]) {
			j++
		}
		parts = append(parts, portRange(published[i], published[j-1]))
		i = j
	}
	return strings.Join(append(parts, declaredOnly(r)...), ", ")
}

func portKey(p record.Port) string {
	return fmt.Sprintf("%s %s %05d %05d", p.HostIP, p.Proto, p.ContainerPort, p.HostPort)
}

func follows(p, next record.Port) bool {
	return p.HostIP == next.HostIP && p.Proto == next.Proto &&
		p.HostPort+1 == next.HostPort && p.ContainerPort+1 == next.ContainerPort
}

func portRange(first, last record.Port) string {
	host, container := strconv.Itoa(int(first.HostPort)), strconv.Itoa(int(first.ContainerPort))
	if first != last {
		host = fmt.Sprintf("%s-%d", host, last.HostPort)
		container = fmt.Sprintf("%s-%d", container, last.ContainerPort)
	}
	ip := orElse(first.HostIP, "0.0.0.0")
	if addr, err := netip.ParseAddr(ip); err == nil && addr.Is6() {
		ip = "[" + ip + "]"
	}
	return fmt.Sprintf("%s:%s->%s/%s", ip, host, container, first.Proto)
}

// declaredOnly are the exposed ports of a running container that are not
// published.
func declaredOnly(r *record.Record) []string {
	if r.State.Status != record.Running {
		return nil
	}
	var list []string
	for _, port := range r.Config.ExposedPorts {
		if !slices.ContainsFunc(r.Network.Ports, func(p record.Port) bool {
			return fmt.Sprintf("%d/%s", p.ContainerPort, p.Proto) == port
		}) {
			list = append(list, port)
		}
	}
	return list
}

// filters are the keys of --filter that work.
var filters = map[string]func(r *record.Record, value string) bool{
	"id":     func(r *record.Record, v string) bool { return strings.HasPrefix(r.ID, v) },
	"name":   func(r *record.Record, v string) bool { return strings.Contains(r.Name, strings.TrimPrefix(v, "/")) },
	"status": func(r *record.Record, v string) bool { return string(r.State.Status) == v },
	"exited": func(r *record.Record, v string) bool {
		return r.State.Status == record.Exited && strconv.Itoa(r.State.ExitCode) == v
	},
	"ancestor": func(r *record.Record, v string) bool {
		return r.Image.Name == v || strings.HasPrefix(shortID(r.Image.ID.String()), shortID(v))
	},
	"label": func(r *record.Record, v string) bool {
		key, value, exact := strings.Cut(v, "=")
		have, ok := r.Config.Labels[key]
		return ok && (!exact || have == value)
	},
}

// parseFilters returns a test that joins filters of the same key by or, and
// different keys by and; byStatus says that containers which do not run are
// asked for.
func parseFilters(texts []string) (match func(*record.Record) bool, byStatus bool, err error) {
	wanted := map[string][]string{}
	for _, text := range texts {
		key, value, ok := strings.Cut(text, "=")
		if _, known := filters[key]; !known || !ok {
			return nil, false, errdefs.New(errdefs.ErrUnsupported, "filter %q is not supported: id, name, label, status, exited, ancestor are", text)
		}
		wanted[key] = append(wanted[key], value)
		byStatus = byStatus || key == "status" || key == "exited"
	}
	return func(r *record.Record) bool {
		for key, values := range wanted {
			if !slices.ContainsFunc(values, func(v string) bool { return filters[key](r, v) }) {
				return false
			}
		}
		return true
	}, byStatus, nil
}
