package cli

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// table writes rows with aligned columns, as Docker lays them out: the widest
// cell and three blanks.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer, header ...string) *table {
	t := &table{tabwriter.NewWriter(w, 10, 1, 3, ' ', 0)}
	if len(header) > 0 {
		t.row(header...)
	}
	return t
}

func (t *table) row(cells ...string) {
	for i, c := range cells {
		cells[i] = oneLine.Replace(visible(c))
	}
	fmt.Fprintln(t.w, strings.Join(cells, "\t"))
}

// oneLine keeps a cell from breaking the table.
var oneLine = strings.NewReplacer("\n", " ", "\t", " ")

func (t *table) flush() error { return t.w.Flush() }

// shortID is the form of an id that people see: 12 hex digits, without the
// algorithm.
func shortID(id string) string {
	if _, hex, ok := strings.Cut(id, ":"); ok {
		id = hex
	}
	if len(id) > 12 {
		return id[:12]
	}
	return id
}

// size writes bytes in SI units with three significant digits: 1.23MB.
func size(bytes int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB", "PB"}
	v, unit := float64(bytes), 0
	for v >= 999.5 && unit < len(units)-1 {
		v /= 1000
		unit++
	}
	return strconv.FormatFloat(v, 'g', 3, 64) + units[unit]
}

// since writes an age in one unit, as Docker does: "About an hour", "3 days".
func since(d time.Duration) string {
	hours := int(d.Hours() + 0.5)
	switch {
	case d < time.Second:
		return "Less than a second"
	case d < 2*time.Second:
		return "1 second"
	case d < time.Minute:
		return fmt.Sprintf("%d seconds", int(d.Seconds()))
	case d < 2*time.Minute:
		return "About a minute"
	case d < 46*time.Minute:
		return fmt.Sprintf("%d minutes", int(d.Minutes()))
	case hours <= 1:
		return "About an hour"
	case hours < 48:
		return fmt.Sprintf("%d hours", hours)
	case hours < 24*7*2:
		return fmt.Sprintf("%d days", hours/24)
	case hours < 24*30*2:
		return fmt.Sprintf("%d weeks", hours/24/7)
	case hours < 24*365*2:
		return fmt.Sprintf("%d months", hours/24/30)
	}
	return fmt.Sprintf("%d years", hours/24/365)
}

// ago is since for a point in time; empty for the zero time.
func ago(now, then time.Time) string {
	if then.IsZero() {
		return ""
	}
	return since(now.Sub(then)) + " ago"
}

// ellipsis cuts s to n characters.
func ellipsis(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}
