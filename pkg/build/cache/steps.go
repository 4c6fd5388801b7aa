package cache

import (
	"fmt"
	"sort"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Parts is what a step is made of, each part under a name that people
// understand: "command", "variable NODE_ENV", "file src/app.js", "the step
// before". Values are short digests or the text itself.
type Parts map[string]string

// maxParts bounds what is kept of one step: the list of the files of a huge
// context would cost more than the explanation is worth.
const maxParts = 20000

// shown is how many differences an explanation names.
const shown = 3

// StepParts gives what a step was made of when it was last noted.
func (c *Cache) StepParts(step digest.Digest) (Parts, bool) {
	p := Parts{}
	ok := c.read(stepsDir, step, &p)
	return p, ok
}

// NoteStep keeps what a step was made of.
func (c *Cache) NoteStep(step digest.Digest, p Parts) error {
	if len(p) > maxParts {
		return nil
	}
	return c.write(stepsDir, step, p)
}

// Explain says in a few words why now is not before; empty if it is.
func Explain(before, now Parts) string {
	var said []string
	for name, v := range now {
		old, ok := before[name]
		switch {
		case !ok:
			said = append(said, name+" is new")
		case old != v:
			said = append(said, name+" changed")
		}
	}
	for name := range before {
		if _, ok := now[name]; !ok {
			said = append(said, name+" is gone")
		}
	}
	sort.Strings(said)
	if len(said) > shown {
		rest := len(said) - shown
		said = append(said[:shown], fmt.Sprintf("%d more", rest))
	}
	return strings.Join(said, ", ")
}
