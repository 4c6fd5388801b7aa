package strictjson

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"box/internal/errdefs"
)

const (
	// maxDepth bounds the nesting of values that are skipped. The fields that
	// are read nest no deeper than their types.
	maxDepth = 200
	// maxShown is the number of steps of a path in a message.
	maxShown = 12
)

// Decoder reads one JSON text from front to back. The first mistake is kept in
// err and moves the position to the end, so that every loop stops and nobody
// but the caller has to look at it.
type Decoder struct {
	name string // of the text, for messages
	text string
	pos  int
	path []step // leads to the value that is being read
	err  error

	variant bool // the key that was read last is a known one in another case
}

// step is one part of a path: a key, or if that is empty an index.
type step struct {
	key   string
	index int
}

// Decode reads one JSON object that fills a whole text, by the function that reads
// its type. The name is that of the text in messages. What has been read before a
// mistake stays in v.
func Decode[T any](name string, data []byte, v *T, read func(*Decoder, *T)) error {
	d := newDecoder(name, data)
	if d.err == nil && d.peek() != '{' {
		d.fail("want an object, have %s", d.kind())
	}
	read(d, v)
	d.end()
	return d.err
}

// newDecoder checks what holds for the text as a whole.
func newDecoder(name string, data []byte) *Decoder {
	d := &Decoder{name: name, text: string(data), path: make([]step, 0, 16)}
	if !utf8.ValidString(d.text) {
		d.pos = invalidUTF8(d.text)
		d.fail("not valid UTF-8")
	}
	return d
}

// invalidUTF8 returns the offset of the first byte that is not UTF-8.
func invalidUTF8(s string) int {
	for i, r := range s {
		if r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD") {
			return i
		}
	}
	return len(s)
}

// fail records the first mistake, with its place.
func (d *Decoder) fail(format string, a ...any) { d.Fail(errdefs.ErrInvalid, format, a...) }

// Fail ends the reading with an error of a class. The text is put behind the place:
// name:line:column: path. A mistake that was found before remains the one reported.
func (d *Decoder) Fail(class error, format string, a ...any) {
	if d.err != nil {
		return
	}
	before := d.text[:min(d.pos, len(d.text))]
	line := strings.Count(before, "\n") + 1
	column := len(before) - strings.LastIndexByte(before, '\n')
	where := d.name + ":" + strconv.Itoa(line) + ":" + strconv.Itoa(column) + ": "
	if p := d.pathString(); p != "" {
		where += p + ": "
	}
	d.err = errdefs.New(class, "%s"+format, append([]any{where}, a...)...)
	d.pos = len(d.text)
}

// pathString is the path in the form linux.namespaces[2].type.
func (d *Decoder) pathString() string {
	var b strings.Builder
	for i, p := range d.path {
		switch {
		case i == maxShown:
			return b.String() + "…"
		case p.key == "":
			b.WriteString("[" + strconv.Itoa(p.index) + "]")
		case b.Len() > 0:
			b.WriteString("." + p.key)
		default:
			b.WriteString(p.key)
		}
	}
	return b.String()
}

// peek skips white space and returns the next byte, 0 at the end.
func (d *Decoder) peek() byte {
	for d.pos < len(d.text) {
		switch c := d.text[d.pos]; c {
		case ' ', '\t', '\n', '\r':
			d.pos++
		default:
			return c
		}
	}
	return 0
}

// end checks that nothing follows the value.
func (d *Decoder) end() {
	if c := d.peek(); c != 0 || d.pos < len(d.text) {
		d.fail("%q after the end of the configuration", d.text[d.pos])
	}
}

// kind names what stands at the position, for "want …, have …".
func (d *Decoder) kind() string {
	switch c := d.peek(); {
	case c == 0 && d.pos >= len(d.text):
		return "the end of the file"
	case c == '{':
		return "an object"
	case c == '[':
		return "an array"
	case c == '"':
		return "a string"
	case c == 't', c == 'f':
		return "a boolean"
	case c == '-', c >= '0' && c <= '9':
		return "a number"
	default:
		return strconv.QuoteRune(rune(c))
	}
}

// Null consumes a null, which leaves whatever it is meant for at its zero value.
func (d *Decoder) Null() bool { return d.peek() == 'n' && d.literal("null") }

// literal consumes a word.
func (d *Decoder) literal(word string) bool {
	if !strings.HasPrefix(d.text[d.pos:], word) {
		d.fail("want a value, have %s", d.kind())
		return false
	}
	d.pos += len(word)
	return true
}

// Begin opens an object, or nothing for null, and reads its first key. While it
// reports true, the value of that key is next, and Next must follow.
func (d *Decoder) Begin() (key string, ok bool) {
	if d.Null() {
		return "", false
	}
	if d.peek() != '{' {
		d.fail("want an object, have %s", d.kind())
		return "", false
	}
	d.pos++
	if d.peek() == '}' {
		d.pos++
		return "", false
	}
	return d.key()
}

// Next moves on behind a value: to the next key, or out of the object.
func (d *Decoder) Next() (key string, ok bool) {
	if d.err != nil {
		return "", false
	}
	d.path = d.path[:len(d.path)-1]
	switch d.peek() {
	case ',':
		d.pos++
		return d.key()
	case '}':
		d.pos++
	default:
		d.fail("want ',' or '}', have %s", d.kind())
	}
	return "", false
}

// key reads a key with its colon and enters it into the path.
func (d *Decoder) key() (string, bool) {
	if d.peek() != '"' {
		d.fail("want a key, have %s", d.kind())
		return "", false
	}
	k := d.str()
	if d.peek() != ':' {
		d.fail("want ':' behind key %q, have %s", k, d.kind())
		return "", false
	}
	d.pos++
	d.path = append(d.path, step{key: k})
	return k, true
}

// Once refuses a key that occurs a second time in the same object: readers
// disagree about which one counts.
func (d *Decoder) Once(seen *uint64, field int) {
	if *seen&(1<<field) != 0 {
		d.fail("set twice")
	}
	*seen |= 1 << field
	d.variant = false
}

// Section is Once for an object that has its own decoder. Written in another case it may
// come again and adds to what is there, as with encoding/json; lists and maps in it do not.
func (d *Decoder) Section(seen *uint64, field int) {
	if d.variant {
		*seen &^= 1 << field
	}
	d.Once(seen, field)
}

// Unknown is for a key that is none of the known ones. One that is but for its case is
// meant, as with encoding/json, on which callers rely: its right spelling is returned, to be
// looked at again. The value of any other is skipped, as the OCI specification demands.
func (d *Decoder) Unknown(key string, known ...string) (right string, again bool) {
	for _, k := range known {
		if strings.EqualFold(k, key) {
			d.variant = true
			return k, true
		}
	}
	d.skip(0)
	return "", false
}

// skip reads over any value.
func (d *Decoder) skip(depth int) {
	if depth > maxDepth {
		d.fail("nested more than %d deep", maxDepth)
		return
	}
	switch c := d.peek(); {
	case c == '{':
		for _, ok := d.Begin(); ok; _, ok = d.Next() {
			d.skip(depth + 1)
		}
	case c == '[':
		for i := 0; d.element(i); i++ {
			d.skip(depth + 1)
		}
	case c == '"':
		d.str()
	case c == 't':
		d.literal("true")
	case c == 'f':
		d.literal("false")
	case c == 'n':
		d.literal("null")
	default:
		d.number()
	}
}

// element moves to element i of an array: over the bracket for the first, over
// a comma for the others. It reports false behind the last one.
func (d *Decoder) element(i int) bool {
	if d.err != nil {
		return false
	}
	c := d.peek()
	switch {
	case i > 0 && c == ',', i == 0 && c == '[':
		d.pos++
		if i == 0 && d.peek() == ']' {
			d.pos++
			return false
		}
		return true
	case i > 0 && c == ']':
		d.pos++
	case i > 0:
		d.fail("want ',' or ']', have %s", d.kind())
	default:
		d.fail("want an array, have %s", d.kind())
	}
	return false
}

// number reads a number and returns its text.
func (d *Decoder) number() string {
	d.peek()
	start := d.pos
	for d.pos < len(d.text) && strings.IndexByte("+-.0123456789eE", d.text[d.pos]) >= 0 {
		d.pos++
	}
	s := d.text[start:d.pos]
	if !validNumber(s) {
		d.pos = start
		d.fail("want a value, have %s", d.kind())
		return "0"
	}
	return s
}

// validNumber applies the grammar of RFC 8259 section 6.
func validNumber(s string) bool {
	s = strings.TrimPrefix(s, "-")
	whole := digits(s)
	if whole == 0 || whole > 1 && s[0] == '0' {
		return false
	}
	if s = s[whole:]; strings.HasPrefix(s, ".") {
		n := digits(s[1:])
		if n == 0 {
			return false
		}
		s = s[1+n:]
	}
	if s == "" {
		return true
	}
	if s[0] != 'e' && s[0] != 'E' {
		return false
	}
	s = s[1:]
	if s != "" && (s[0] == '+' || s[0] == '-') {
		s = s[1:]
	}
	return s != "" && digits(s) == len(s)
}

// digits counts the digits at the start of s.
func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

// str reads a string. Most have no escapes and are a piece of the text.
func (d *Decoder) str() string {
	if d.peek() != '"' {
		d.fail("want a string, have %s", d.kind())
		return ""
	}
	start := d.pos + 1
	for i := start; i < len(d.text); i++ {
		switch c := d.text[i]; {
		case c == '"':
			d.pos = i + 1
			return d.text[start:i]
		case c == '\\':
			return d.escaped(start, i)
		case c < ' ':
			d.pos = i
			d.fail("control character %#02x in a string", c)
			return ""
		}
	}
	d.pos = len(d.text)
	d.fail("string without an end")
	return ""
}

// escaped reads the rest of a string that has escapes; the first stands at i.
func (d *Decoder) escaped(start, i int) string {
	b := []byte(d.text[start:i])
	for d.pos = i; d.pos < len(d.text); {
		c := d.text[d.pos]
		switch {
		case c == '"':
			d.pos++
			return string(b)
		case c == '\\':
			b = d.escape(b)
		case c < ' ':
			d.fail("control character %#02x in a string", c)
		default:
			b = append(b, c)
			d.pos++
		}
	}
	d.fail("string without an end")
	return ""
}

// escape reads one escape sequence and appends what it stands for.
func (d *Decoder) escape(b []byte) []byte {
	const short, meaning = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
	if d.pos+1 >= len(d.text) {
		d.fail("string without an end")
		return b
	}
	c := d.text[d.pos+1]
	if i := strings.IndexByte(short, c); i >= 0 {
		d.pos += 2
		return append(b, meaning[i])
	}
	r, ok := d.hexRune()
	switch {
	case !ok:
		d.fail("unknown escape in a string")
	case r == 0:
		// No string of a configuration can hold it: all of them end up as C
		// strings, where it would hide the rest.
		d.fail("NUL in a string")
	case utf16.IsSurrogate(r):
		low, _ := d.hexRune()
		r = utf16.DecodeRune(r, low)
		if r == utf8.RuneError {
			d.fail("half of a surrogate pair in a string")
		}
	}
	return utf8.AppendRune(b, r)
}

// hexRune reads \uXXXX.
func (d *Decoder) hexRune() (rune, bool) {
	if len(d.text)-d.pos < 6 || d.text[d.pos:d.pos+2] != `\u` {
		return 0, false
	}
	n, err := strconv.ParseUint(d.text[d.pos+2:d.pos+6], 16, 16)
	if err != nil {
		return 0, false
	}
	d.pos += 6
	return rune(n), true
}
