package resctrl

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"box/internal/errdefs"
)

// Stats are what a host can divide, how a group shares in it, and what the kernel measures
// for the group (resctrl.rst, "Info directory" and "Resource alloc and monitor groups").
// The keys are those of intel_rdt in the output of runc's events. The zero Stats are those
// of a container that is in no group.
type Stats struct {
	Cache      *CacheInfo `json:"l3_cache_info,omitempty"` // nil where caches are not divided
	CacheRoot  string     `json:"l3_cache_schema_root,omitempty"`
	CacheGroup string     `json:"l3_cache_schema,omitempty"`

	Bandwidth      *BandwidthInfo `json:"mem_bw_info,omitempty"` // nil where bandwidth is not divided
	BandwidthRoot  string         `json:"mem_bw_schema_root,omitempty"`
	BandwidthGroup string         `json:"mem_bw_schema,omitempty"`

	Schemata []string `json:"schemata,omitempty"` // all of the group's

	// One entry for each cache, in the order of their numbers; none where the host does not
	// measure that.
	Traffic   []Traffic   `json:"mbm_stats,omitempty"`
	Occupancy []Occupancy `json:"cmt_stats,omitempty"`
}

// CacheInfo says how the third level of caches can be divided.
type CacheInfo struct {
	Mask    string `json:"cbm_mask,omitempty"` // all parts, in hexadecimal
	MinBits uint64 `json:"min_cbm_bits,omitempty"`
	Groups  uint64 `json:"num_closids,omitempty"` // that there can be
}

// BandwidthInfo says how memory bandwidth can be divided, in percent.
type BandwidthInfo struct {
	Step   uint64 `json:"bandwidth_gran,omitempty"`
	Linear uint64 `json:"delay_linear,omitempty"`
	Min    uint64 `json:"min_bandwidth,omitempty"`
	Groups uint64 `json:"num_closids,omitempty"`
}

// Traffic is what went between memory and a cache, in bytes: all of it, and that to the
// memory beside it. Nil is what the kernel has no counter for at the moment.
type Traffic struct {
	Total *uint64 `json:"mbm_total_bytes"`
	Local *uint64 `json:"mbm_local_bytes"`
}

// Occupancy is how much of a cache is in use, in bytes; nil as for Traffic.
type Occupancy struct {
	Bytes *uint64 `json:"llc_occupancy"`
}

// Stats reads the figures of a group; root is Root's answer. Without a monitoring group of
// its own, what is measured counts for everybody in the group.
func (g *Group) Stats(root string) (Stats, error) {
	if root == "" {
		return Stats{}, errdefs.New(errdefs.ErrUnavailable, "read figures of resctrl group %s: no resctrl is mounted at %s", g.Path, usualRoot)
	}
	var s Stats
	var r reader
	s.Schemata = r.lines(g.Path, "schemata")
	all := r.lines(root, "schemata")
	if info := filepath.Join(root, "info", "L3"); !missing(info) {
		s.Cache = &CacheInfo{r.text(info, "cbm_mask"), r.number(info, "min_cbm_bits"), r.number(info, "num_closids")}
		s.CacheRoot, s.CacheGroup = schema(all, "L3"), schema(s.Schemata, "L3")
	}
	if info := filepath.Join(root, "info", "MB"); !missing(info) {
		s.Bandwidth = &BandwidthInfo{r.number(info, "bandwidth_gran"), r.number(info, "delay_linear"), r.number(info, "min_bandwidth"), r.number(info, "num_closids")}
		s.BandwidthRoot, s.BandwidthGroup = schema(all, "MB"), schema(s.Schemata, "MB")
	}
	if info := filepath.Join(root, "info", "L3_MON"); !missing(info) {
		s.measure(&r, g, r.lines(info, "mon_features"))
	}
	return s, r.err
}

// schema is the line of a resource.
func schema(lines []string, resource string) string {
	i := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, resource+":") })
	if i < 0 {
		return ""
	}
	return lines[i]
}

// measure reads the counters that the host has.
func (s *Stats) measure(r *reader, g *Group, features []string) {
	dir := g.Path
	if g.Monitor != "" {
		dir = g.Monitor
	}
	total, local := slices.Contains(features, "mbm_total_bytes"), slices.Contains(features, "mbm_local_bytes")
	for _, cache := range r.caches(filepath.Join(dir, "mon_data")) {
		if total || local {
			s.Traffic = append(s.Traffic, Traffic{r.counter(total, cache, "mbm_total_bytes"), r.counter(local, cache, "mbm_local_bytes")})
		}
		if slices.Contains(features, "llc_occupancy") {
			s.Occupancy = append(s.Occupancy, Occupancy{r.counter(true, cache, "llc_occupancy")})
		}
	}
}

// reader reads files of the kernel's until it cannot.
type reader struct{ err error }

func (r *reader) text(dir, name string) string {
	if r.err != nil {
		return ""
	}
	var text []byte
	text, r.err = os.ReadFile(filepath.Join(dir, name))
	return strings.TrimSpace(string(text))
}

// lines are without the spaces with which the kernel aligns them.
func (r *reader) lines(dir, name string) (lines []string) {
	for line := range strings.Lines(r.text(dir, name)) {
		lines = append(lines, strings.TrimSpace(line))
	}
	return lines
}

func (r *reader) number(dir, name string) uint64 {
	text := r.text(dir, name)
	if r.err != nil {
		return 0
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		r.err = fmt.Errorf("read %s: %w", filepath.Join(dir, name), err)
	}
	return n
}

// counter reads a number in whose place there may be a word: "Unavailable", "Unassigned",
// "Error". What the host never counts is 0, as with runc.
func (r *reader) counter(has bool, dir, name string) *uint64 {
	var n uint64
	if has {
		var err error
		if n, err = strconv.ParseUint(r.text(dir, name), 10, 64); err != nil {
			return nil
		}
	}
	return &n
}

// caches are the directories with the counters of each third-level cache.
func (r *reader) caches(dir string) (caches []string) {
	if r.err != nil {
		return nil
	}
	var entries []os.DirEntry
	entries, r.err = os.ReadDir(dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "mon_L3_") {
			caches = append(caches, filepath.Join(dir, e.Name()))
		}
	}
	return caches
}
