package dockerfile

import (
	"slices"
	"strings"

	"box/internal/errdefs"

	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// Lookup gives the value of a variable and whether it is set.
type Lookup func(name string) (string, bool)

// Get implements the interface of BuildKit's lexer.
func (l Lookup) Get(name string) (string, bool) { return l(name) }

// Keys is wanted by BuildKit's lexer for its checks only, which box does not run.
func (l Lookup) Keys() []string { return nil }

// MaxExpanded bounds what the variables of one Dockerfile may expand to in all, in
// bytes: forty lines that each double a variable would fill any memory.
const MaxExpanded = 16 << 20

// Expander expands variables in words of a Dockerfile. It is not safe for
// concurrent use.
type Expander struct {
	lex   *shell.Lex
	spent int // of MaxExpanded
}

// NewExpander gives an expander with the escape character of the file.
func (f *File) NewExpander() *Expander {
	return &Expander{lex: shell.NewLex(f.Escape)}
}

// Word expands word and removes quotes; the result is one word whatever it holds.
func (x *Expander) Word(word string, env Lookup) (string, error) {
	var out string
	err := x.metered(word, env, func(m *meter) (err error) {
		out, _, err = x.lex.ProcessWord(word, m)
		return err
	})
	return out, err
}

// Words expands word, removes quotes and splits the result at blanks.
func (x *Expander) Words(word string, env Lookup) ([]string, error) {
	var out []string
	err := x.metered(word, env, func(m *meter) (err error) {
		out, err = x.lex.ProcessWords(word, m)
		return err
	})
	return out, err
}

// Raw expands word but leaves quotes alone: for the text of heredocs.
func (x *Expander) Raw(word string, env Lookup) (string, error) {
	x.lex.SkipProcessQuotes = true
	defer func() { x.lex.SkipProcessQuotes = false }()
	return x.Word(word, env)
}

// metered runs the lexer with variables that run out.
func (x *Expander) metered(word string, env Lookup, lex func(*meter) error) error {
	replaces, nested := replacements(word)
	if nested {
		return errdefs.New(errdefs.ErrUnsupported, "a replacement ${name/pattern/text} within another is not supported")
	}
	m := &meter{Lookup: env, expander: x, word: len(word), replaces: replaces}
	err := lex(m)
	if m.over {
		return errdefs.New(errdefs.ErrInvalid, "the variables of the file expand to more than %d bytes", MaxExpanded)
	}
	if err != nil {
		return errdefs.New(errdefs.ErrInvalid, "%s", cut(err.Error(), maxShown))
	}
	return nil
}

// meter counts the values that it hands out.
type meter struct {
	Lookup
	expander *Expander
	word     int  // what the word has become by now at most, in bytes
	replaces bool // the word has replacements
	over     bool // values are withheld
}

// Get counts what a value adds. A replacement may put a text as long as the word
// at every place of the value: there it is the product that counts.
func (m *meter) Get(name string) (string, bool) {
	value, ok := m.Lookup(name)
	m.expander.spent += len(value)
	m.word += len(value)
	if m.expander.spent > MaxExpanded || m.replaces && len(value)*m.word > MaxExpanded {
		m.over = true
		return "", ok
	}
	return value, ok
}

// replacements tells whether a word has replacements, and whether one stands within
// the braces of another. Each level multiplies the length of the result; nobody
// writes them. It knows no quotes, and so may take for one what is none.
func replacements(word string) (some, nested bool) {
	var open []bool // for each brace that is open: is it a replacement's
	for i := range len(word) {
		switch {
		case word[i] == '}' && len(open) > 0:
			open = open[:len(open)-1]
		case strings.HasPrefix(word[i:], "${"):
			replaces := isReplacement(word[i+2:])
			nested = nested || replaces && slices.Contains(open, true)
			some = some || replaces
			open = append(open, replaces)
		}
	}
	return some, nested
}

// isReplacement looks at what follows "${".
func isReplacement(s string) bool {
	end := strings.IndexFunc(s, func(r rune) bool { return !strings.ContainsRune(nameLetters, r) })
	return end >= 0 && s[end] == '/'
}

// nameLetters are those of variables, those with special names included.
const nameLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_@*#?-$!"
