package stats

import (
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"box/pkg/cgroups/kernfs"
)

// reader reads files of one directory. Absent files, those of controllers that
// are not on and of newer kernels, read as empty.
type reader struct {
	dir string
	err error // the first that is not about absence
}

func (r *reader) text(file string) string {
	data, err := kernfs.Read(filepath.Join(r.dir, file))
	if err != nil && !kernfs.Gone(err) && !notCounted(err) && r.err == nil {
		r.err = err
	}
	return data
}

// notCounted tells whether the kernel has the file but nothing to say in it: it
// was booted without pressure or swap accounting, or has no tcp accounting here.
func notCounted(err error) bool {
	errno, ok := errnoOf(err)
	return ok && slices.Contains([]unix.Errno{unix.EOPNOTSUPP, unix.EINVAL}, errno)
}

// value is the number in a file, "max" being math.MaxUint64.
func (r *reader) value(file string) uint64 {
	n, _ := kernfs.Value(r.text(file))
	return n
}

func (r *reader) flat(file string) map[string]uint64 { return kernfs.FlatKeyed(r.text(file)) }

func cpuUnified(r *reader, s *Stats) {
	const micro = 1000 // nanoseconds
	stat := r.flat("cpu.stat")
	s.CPU.Usage.Total = stat["usage_usec"] * micro
	s.CPU.Usage.User = stat["user_usec"] * micro
	s.CPU.Usage.Kernel = stat["system_usec"] * micro
	s.CPU.Throttling = Throttling{stat["nr_periods"], stat["nr_throttled"], stat["throttled_usec"] * micro}
}

func cpusetUnified(r *reader, s *Stats) {
	s.CPUSet.CPUs, _ = kernfs.List(r.text("cpuset.cpus.effective"))
	s.CPUSet.Mems, _ = kernfs.List(r.text("cpuset.mems.effective"))
}

func memoryUnified(r *reader, s *Stats) {
	m := &s.Memory
	m.Raw = r.flat("memory.stat")
	m.Cache = m.Raw["file"]
	m.Usage = MemoryEntry{
		Limit: r.value("memory.max"), Usage: r.value("memory.current"),
		Max: r.value("memory.peak"), Failcnt: r.flat("memory.events")["max"],
	}
	m.Swap = MemoryEntry{
		Limit: sum(r.value("memory.swap.max"), m.Usage.Limit), Usage: r.value("memory.swap.current") + m.Usage.Usage,
		Failcnt: r.flat("memory.swap.events")["max"],
	}
}

// sum adds two limits, of which either may be none.
func sum(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}

// pidsBoth needs no more than both versions have in common.
func pidsBoth(r *reader, s *Stats) {
	s.Pids.Current = r.value("pids.current")
	if limit := r.value("pids.max"); limit != math.MaxUint64 {
		s.Pids.Limit = limit
	}
}

// ioUnified takes what io.stat has of every device: bytes and operations.
func ioUnified(r *reader, s *Stats) {
	for _, e := range kernfs.NestedKeyed(r.text("io.stat")) {
		for _, f := range []struct {
			name, op string
			list     *[]BlkioEntry
		}{
			{"rbytes", "Read", &s.Blkio.IoServiceBytesRecursive},
			{"wbytes", "Write", &s.Blkio.IoServiceBytesRecursive},
			{"dbytes", "Discard", &s.Blkio.IoServiceBytesRecursive},
			{"rios", "Read", &s.Blkio.IoServicedRecursive},
			{"wios", "Write", &s.Blkio.IoServicedRecursive},
			{"dios", "Discard", &s.Blkio.IoServicedRecursive},
		} {
			if entry, ok := blkioEntry(e.Key, f.op, e.Values[f.name]); ok {
				*f.list = append(*f.list, entry)
			}
		}
	}
}

// blkioEntry parses a figure of a device "major:minor".
func blkioEntry(device, op, value string) (e BlkioEntry, ok bool) {
	major, minor, _ := strings.Cut(device, ":")
	var errs [3]error
	e.Op = op
	e.Major, errs[0] = strconv.ParseUint(major, 10, 32)
	e.Minor, errs[1] = strconv.ParseUint(minor, 10, 32)
	e.Value, errs[2] = strconv.ParseUint(value, 10, 64)
	return e, errs == [3]error{}
}

// hugetlbUnified prefers reservations, which is what the limit is about first, to
// usage.
func hugetlbUnified(r *reader, s *Stats) {
	for _, size := range r.pageSizes(".current") {
		infix := ".rsvd"
		if r.text("hugetlb."+size+infix+".current") == "" {
			infix = ""
		}
		s.Hugetlb[size] = Hugetlb{
			Usage:   r.value("hugetlb." + size + infix + ".current"),
			Failcnt: r.flat("hugetlb." + size + ".events")["max"],
		}
	}
}

// pageSizes lists the sizes for which there is a file hugetlb.<size><suffix>.
func (r *reader) pageSizes(suffix string) []string {
	names, _ := filepath.Glob(filepath.Join(r.dir, "hugetlb.*"+suffix)) // the pattern is well formed
	var sizes []string
	for _, name := range names {
		size := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(name), "hugetlb."), suffix)
		if !strings.Contains(size, ".") { // hugetlb.2MB.rsvd.current
			sizes = append(sizes, size)
		}
	}
	return sizes
}

// pressure reads what the unified hierarchy has for every group, whatever
// controllers it has.
func pressure(dir string, s *Stats) error {
	if dir == "" {
		return nil
	}
	r := &reader{dir: dir}
	s.CPU.PSI = parsePressure(r.text("cpu.pressure"))
	s.Memory.PSI = parsePressure(r.text("memory.pressure"))
	s.Blkio.PSI = parsePressure(r.text("io.pressure"))
	return r.err
}

// parsePressure returns nil for a kernel that does not measure it.
func parsePressure(data string) *PSI {
	if data == "" {
		return nil
	}
	p := &PSI{}
	for _, e := range kernfs.NestedKeyed(data) {
		d := PSIData{}
		// What does not parse is 0: the kernel writes numbers.
		d.Avg10, _ = strconv.ParseFloat(e.Values["avg10"], 64)
		d.Avg60, _ = strconv.ParseFloat(e.Values["avg60"], 64)
		d.Avg300, _ = strconv.ParseFloat(e.Values["avg300"], 64)
		d.Total, _ = strconv.ParseUint(e.Values["total"], 10, 64)
		switch e.Key {
		case "some":
			p.Some = d
		case "full":
			p.Full = d
		}
	}
	return p
}
