package dockerfile

import (
	"box/internal/errdefs"

	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// Lookup gives the value of a variable and whether it is set.
type Lookup func(name string) (string, bool)

// Get implements the interface of BuildKit's lexer.
func (l Lookup) Get(name string) (string, bool) { return l(name) }

// Keys is wanted by BuildKit's lexer for its checks only, which box does not run.
func (l Lookup) Keys() []string { return nil }

// Expander expands variables in words of a Dockerfile. It is not safe for
// concurrent use.
type Expander struct{ lex *shell.Lex }

// NewExpander gives an expander with the escape character of the file.
func (f *File) NewExpander() *Expander {
	return &Expander{lex: shell.NewLex(f.Escape)}
}

// Word expands word and removes quotes; the result is one word whatever it holds.
func (x *Expander) Word(word string, env Lookup) (string, error) {
	out, _, err := x.lex.ProcessWord(word, env)
	return out, classify(err)
}

// Words expands word, removes quotes and splits the result at blanks.
func (x *Expander) Words(word string, env Lookup) ([]string, error) {
	out, err := x.lex.ProcessWords(word, env)
	return out, classify(err)
}

// Raw expands word but leaves quotes alone: for the text of heredocs.
func (x *Expander) Raw(word string, env Lookup) (string, error) {
	x.lex.SkipProcessQuotes = true
	defer func() { x.lex.SkipProcessQuotes = false }()
	out, _, err := x.lex.ProcessWord(word, env)
	return out, classify(err)
}

func classify(err error) error {
	if err == nil {
		return nil
	}
	return errdefs.Wrap(errdefs.ErrInvalid, err)
}
