package strictjson

import (
	"encoding"
	"maps"
	"slices"
	"strconv"

	"box/internal/errdefs"
)

// Text is a member that is a string.
func Text[T ~string](o *Object, key string, v *T) {
	switch {
	case !o.at(key):
	case o.from != nil:
		String(o.from, v)
	default:
		o.text = AppendString(o.text, string(*v))
	}
}

// Flag is a member that is true or false.
func Flag(o *Object, key string, v *bool) {
	switch {
	case !o.at(key):
	case o.from != nil:
		Bool(o.from, v)
	default:
		o.text = strconv.AppendBool(o.text, *v)
	}
}

// Number is a member that is a signed integer.
func Number[T ~int | ~int16 | ~int32 | ~int64](o *Object, key string, v *T) {
	switch {
	case !o.at(key):
	case o.from != nil:
		Int(o.from, v)
	default:
		o.text = strconv.AppendInt(o.text, int64(*v), 10)
	}
}

// Count is a member that is an unsigned integer.
func Count[T ~uint | ~uint16 | ~uint32 | ~uint64 | ~uintptr](o *Object, key string, v *T) {
	switch {
	case !o.at(key):
	case o.from != nil:
		Uint(o.from, v)
	default:
		o.text = strconv.AppendUint(o.text, uint64(*v), 10)
	}
}

// Textual is a member of a type with a text of its own, such as a time.
func Textual(o *Object, key string, v interface {
	encoding.TextAppender
	encoding.TextUnmarshaler
},
) {
	switch {
	case !o.at(key):
	case o.from != nil:
		if o.from.Null() {
			return
		}
		if err := v.UnmarshalText([]byte(o.from.str())); err != nil {
			o.from.Fail(errdefs.ErrInvalid, "%w", err)
		}
	default:
		s, err := v.AppendText(nil)
		if err != nil && o.err == nil {
			o.err = err
		}
		o.text = AppendString(o.text, string(s))
	}
}

// Strings is a member that is a list of strings. An empty one is not written.
func Strings(o *Object, key string, v *[]string) {
	switch {
	case o.from == nil && len(*v) == 0, !o.at(key):
	case o.from != nil:
		List(o.from, v, String)
	default:
		o.text = append(o.text, '[')
		for _, s := range *v {
			o.comma('[')
			o.text = AppendString(o.text, s)
		}
		o.text = append(o.text, ']')
	}
}

// StringMap is a member that is an object whose keys are data. An empty one is not
// written; the keys of others are sorted, so that equal values are equal texts.
func StringMap(o *Object, key string, v *map[string]string) {
	switch {
	case o.from == nil && len(*v) == 0, !o.at(key):
	case o.from != nil:
		Map(o.from, v, String)
	default:
		o.nested(func() {
			for _, k := range slices.Sorted(maps.Keys(*v)) {
				value := (*v)[k]
				Text(o, k, &value)
			}
		})
	}
}

// Inner is a member that is an object with members of its own.
func Inner[T any](o *Object, key string, v *T, members func(*Object, *T)) {
	switch {
	case !o.at(key):
	case o.from != nil:
		read(o.from, v, members)
	default:
		o.nested(func() { members(o, v) })
	}
}
