package dockerfile

import (
	"sort"
	"strings"

	"box/internal/errdefs"

	"github.com/moby/buildkit/frontend/dockerfile/command"
)

// unknownInstruction names the instruction that was most likely meant.
// BuildKit's own guess counts two swapped letters as two mistakes, and takes
// one of several equally near names at random.
func unknownInstruction(name string) error {
	if best := nearestInstruction(name); best != "" {
		return errdefs.New(errdefs.ErrInvalid, "unknown instruction: %s (did you mean %s?)", name, best)
	}
	return errdefs.New(errdefs.ErrInvalid, "unknown instruction: %s", name)
}

// nearestInstruction finds the known name with the fewest mistakes, at most two.
func nearestInstruction(name string) string {
	var known []string
	for c := range command.Commands {
		known = append(known, strings.ToUpper(c))
	}
	sort.Strings(known)
	best, fewest := "", 3
	for _, k := range known {
		if n := mistakes(strings.ToUpper(name), k); n < fewest && n < len(k) {
			best, fewest = k, n
		}
	}
	return best
}

// mistakes counts how many letters are missing, too many, wrong, or swapped
// with their neighbour.
func mistakes(a, b string) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			swap := 1
			if a[i-1] == b[j-1] {
				swap = 0
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+swap)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}
