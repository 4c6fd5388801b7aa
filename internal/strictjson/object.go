package strictjson

import "unicode/utf8"

// Object is one pass over the members of an object. A type names its members once, in a
// function that is the same for both directions, so that none is written that is not read:
//
//	func members(o *strictjson.Object, v *T) {
//		strictjson.Text(o, "name", &v.Name)
//		strictjson.Number(o, "size", &v.Size)
//	}
//
// Writing goes through the function from top to bottom. Reading goes through it for each
// key, and the member of that key takes the value; this is meant for a few dozen members,
// and for 64 at most. Keys that no member has are passed over.
type Object struct {
	from  *Decoder // nil when writing
	key   string   // whose value stands next in from
	found bool     // the member of key was met
	index int      // of the member within the pass
	seen  uint64   // members that were read, by index
	text  []byte   // what has been written
	err   error    // of writing
}

// Read reads one JSON object that fills a whole text, like Decode.
func Read[T any](name string, data []byte, v *T, members func(*Object, *T)) error {
	return Decode(name, data, v, func(d *Decoder, v *T) { read(d, v, members) })
}

func read[T any](d *Decoder, v *T, members func(*Object, *T)) {
	o := &Object{from: d}
	for key, ok := d.Begin(); ok; key, ok = d.Next() {
		o.key, o.found, o.index = key, false, 0
		members(o, v)
		if !o.found {
			d.skip(0)
		}
	}
}

// Append appends v as one line of JSON. It fails only if a Textual member does.
func Append[T any](text []byte, v *T, members func(*Object, *T)) ([]byte, error) {
	o := &Object{text: text}
	o.nested(func() { members(o, v) })
	return o.text, o.err
}

// nested writes an object around what members writes.
func (o *Object) nested(members func()) {
	o.text = append(o.text, '{')
	members()
	o.text = append(o.text, '}')
}

// at reports whether it is a member's turn. When writing, that is always so, and its key
// has been written; a member that is left out when it is empty has to ask before.
func (o *Object) at(key string) bool {
	if o.from == nil {
		o.comma('{')
		o.text = append(AppendString(o.text, key), ':')
		return true
	}
	o.index++
	if o.found || key != o.key {
		return false
	}
	o.found = true
	o.from.Once(&o.seen, o.index-1)
	return true
}

// comma parts what comes from what stands before it, unless that is the bracket.
func (o *Object) comma(bracket byte) {
	if o.text[len(o.text)-1] != bracket {
		o.text = append(o.text, ',')
	}
}

// AppendString appends s as a JSON string. Bytes that are not UTF-8 become U+FFFD, as in
// encoding/json: JSON has no way to say them.
func AppendString(text []byte, s string) []byte {
	const hex = "0123456789abcdef"
	text = append(text, '"')
	for _, r := range s {
		switch {
		case r == '"', r == '\\':
			text = append(text, '\\', byte(r))
		case r < ' ':
			text = append(text, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			text = utf8.AppendRune(text, r)
		}
	}
	return append(text, '"')
}
