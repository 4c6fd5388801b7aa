package kernfs

import (
	"math"
	"strconv"
	"strings"
)

// The forms of interface files are those of Documentation/admin-guide/cgroup-v2.rst,
// "Interface Files": one value, flat keyed, nested keyed. Parsers never fail: the
// kernel adds keys, and what is not understood is left out.

// FlatKeyed parses a file of lines with a key and a number.
func FlatKeyed(data string) map[string]uint64 {
	values := map[string]uint64{}
	for line := range strings.Lines(data) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64); err == nil {
			values[key] = n
		}
	}
	return values
}

// Value parses a file of one number, where "max" is math.MaxUint64. ok tells
// whether it was one.
func Value(data string) (n uint64, ok bool) {
	data = strings.TrimSpace(data)
	if data == "max" {
		return math.MaxUint64, true
	}
	n, err := strconv.ParseUint(data, 10, 64)
	return n, err == nil
}

// Entry is a line of a nested keyed file: a key and pairs.
type Entry struct {
	Key    string
	Values map[string]string
}

// NestedKeyed parses a file of lines with a key and name=value pairs, such as
// io.stat or memory.pressure.
func NestedKeyed(data string) []Entry {
	var entries []Entry
	for line := range strings.Lines(data) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		e := Entry{words[0], make(map[string]string, len(words)-1)}
		for _, pair := range words[1:] {
			if name, value, ok := strings.Cut(pair, "="); ok {
				e.Values[name] = value
			}
		}
		entries = append(entries, e)
	}
	return entries
}

// List parses a list of numbers and ranges such as 0-3,7 into single numbers. ok
// is false if it is none or longer than any machine's.
func List(data string) (numbers []uint16, ok bool) {
	data = strings.TrimSpace(data)
	if data == "" {
		return nil, true
	}
	for part := range strings.SplitSeq(data, ",") {
		first, last, ranged := strings.Cut(part, "-")
		if !ranged {
			last = first
		}
		from, err1 := strconv.ParseUint(first, 10, 16)
		to, err2 := strconv.ParseUint(last, 10, 16)
		if err1 != nil || err2 != nil || to < from || len(numbers)+int(to-from) > math.MaxUint16 {
			return nil, false
		}
		for n := from; n <= to; n++ {
			numbers = append(numbers, uint16(n))
		}
	}
	return numbers, true
}
