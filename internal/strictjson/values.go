package strictjson

import (
	"strconv"
	"strings"
)

// String reads a string of any string type.
func String[T ~string](d *Decoder, v *T) {
	if !d.Null() {
		*v = T(d.str())
	}
}

// Bool reads true or false.
func Bool(d *Decoder, v *bool) {
	switch d.peek() {
	case 'n':
		d.literal("null")
	case 't':
		*v = d.literal("true")
	case 'f':
		*v = !d.literal("false")
	default:
		d.fail("want a boolean, have %s", d.kind())
	}
}

// Int reads a signed integer that fits its type.
func Int[T ~int | ~int16 | ~int32 | ~int64](d *Decoder, v *T) {
	if d.Null() {
		return
	}
	start := d.pos
	n, err := strconv.ParseInt(d.integer(), 10, 64)
	if err != nil || int64(T(n)) != n {
		d.outOfRange(start)
		return
	}
	*v = T(n)
}

// Uint reads an unsigned integer that fits its type.
func Uint[T ~uint | ~uint16 | ~uint32 | ~uint64 | ~uintptr](d *Decoder, v *T) {
	if d.Null() {
		return
	}
	start := d.pos
	n, err := strconv.ParseUint(d.integer(), 10, 64)
	if err != nil || uint64(T(n)) != n {
		d.outOfRange(start)
		return
	}
	*v = T(n)
}

// integer reads the text of a number without fraction and exponent.
func (d *Decoder) integer() string {
	if c := d.peek(); c != '-' && (c < '0' || c > '9') {
		d.fail("want a number, have %s", d.kind())
		return "0"
	}
	start := d.pos
	s := d.number()
	if strings.ContainsAny(s, ".eE") {
		d.pos = start
		d.fail("want an integer, have %s", s)
		return "0"
	}
	return s
}

// outOfRange reports the number that begins at start, unless it was reported as
// something worse already.
func (d *Decoder) outOfRange(start int) {
	if d.err != nil {
		return
	}
	s := d.text[start:d.pos]
	d.pos = start
	d.fail("%s is out of range", s)
}

// List reads an array. As with encoding/json, an empty one is not nil.
func List[T any](d *Decoder, v *[]T, element func(*Decoder, *T)) {
	if *v != nil { // of a section that came before (Decoder.Section)
		d.fail("set twice")
	}
	if d.Null() {
		return
	}
	if d.peek() != '[' {
		d.fail("want an array, have %s", d.kind())
		return
	}
	list := []T{}
	d.path = append(d.path, step{})
	for i := 0; d.element(i); i++ {
		d.path[len(d.path)-1].index = i
		list = append(list, *new(T))
		element(d, &list[i])
	}
	if d.err == nil {
		d.path = d.path[:len(d.path)-1]
	}
	*v = list
}

// Map reads an object whose keys are data. A key that occurs twice is
// refused, as in every other object.
func Map[T any](d *Decoder, v *map[string]T, element func(*Decoder, *T)) {
	if *v != nil {
		d.fail("set twice")
	}
	if d.Null() {
		return
	}
	m := map[string]T{}
	for k, ok := d.Begin(); ok; k, ok = d.Next() {
		if _, twice := m[k]; twice {
			d.fail("set twice")
		}
		var value T
		element(d, &value)
		m[k] = value
	}
	*v = m
}
