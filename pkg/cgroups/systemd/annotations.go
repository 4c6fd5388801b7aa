package systemd

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"box/internal/errdefs"
)

// annotation is the prefix of a container's annotations that set properties.
const annotation = "org.systemd.property."

// settable returns the type that systemd has for a property which an annotation may
// set, "" for all others. None of them makes systemd run anything, read or write a
// path, start or stop another unit, or take anything from one.
func settable(property string) string {
	switch property {
	case "CPUAccounting", "DefaultDependencies", "IOAccounting", "IPAccounting", "MemoryAccounting",
		"SendSIGHUP", "SendSIGKILL", "StopWhenUnneeded", "TasksAccounting":
		return "b"
	case "KillSignal":
		return "i"
	case "CPUQuotaPerSecUSec", "CPUQuotaPeriodUSec", "CPUShares", "CPUWeight", "IOWeight", "JobTimeoutUSec",
		"MemoryHigh", "MemoryLimit", "MemoryLow", "MemoryMax", "MemoryMin", "MemorySwapMax",
		"RuntimeMaxUSec", "TasksMax", "TimeoutStopUSec":
		return "t"
	case "CollectMode", "Description", "KillMode", "ManagedOOMMemoryPressure", "ManagedOOMPreference",
		"ManagedOOMSwap", "OOMPolicy":
		return "s"
	case "After", "Before", "Documentation", "PartOf":
		return "as"
	}
	return ""
}

// FromAnnotations returns the properties that a container's annotations ask for, in
// the order of their names. A name that ends in Sec is seconds for the one that
// ends in USec.
func FromAnnotations(annotations map[string]string) ([]Property, error) {
	var all []Property
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		name, ok := strings.CutPrefix(key, annotation)
		if !ok {
			continue
		}
		unit := uint64(1)
		if settable(name) == "" && strings.HasSuffix(name, "Sec") {
			name, unit = strings.TrimSuffix(name, "Sec")+"USec", 1_000_000
		}
		kind := settable(name)
		if kind == "" {
			return nil, errdefs.New(errdefs.ErrUnsupported, "annotation %s: a container may not set this property", key)
		}
		value, err := parse(annotations[key], kind, unit)
		if err != nil {
			return nil, errdefs.New(errdefs.ErrInvalid, "annotation %s=%s value parse error: %w", key, annotations[key], err)
		}
		all = append(all, Property{name, value})
	}
	return all, nil
}

// parse reads a value in GVariant's text form, as far as the settable types need
// it: true, 5, uint64 5, 2.5 (of a unit), 'text', ['a', 'b'].
func parse(text, kind string, unit uint64) (any, error) {
	text = strings.TrimSpace(text)
	switch kind {
	case "b":
		if text != "true" && text != "false" {
			return nil, errdefs.New(errdefs.ErrInvalid, "want true or false")
		}
		return text == "true", nil
	case "t":
		return parseNumber(withoutType(text), unit)
	case "i":
		n, err := parseNumber(withoutType(text), unit)
		if err == nil && n > 64 {
			return nil, errdefs.New(errdefs.ErrInvalid, "want the number of a signal")
		}
		return int32(n), err
	case "s":
		s, rest, err := parseString(text)
		if err == nil && rest != "" {
			err = errdefs.New(errdefs.ErrInvalid, "text after the string")
		}
		return s, err
	default:
		return parseStrings(text)
	}
}

// withoutType drops a leading type, which says nothing that we do not know.
func withoutType(text string) string {
	for _, t := range []string{"byte", "int16", "uint16", "int32", "uint32", "int64", "uint64", "@t", "@u", "@i"} {
		if rest, ok := strings.CutPrefix(text, t+" "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return text
}

// parseNumber reads a number of units; fractions are for units of more than one.
func parseNumber(text string, unit uint64) (uint64, error) {
	if n, err := strconv.ParseUint(text, 0, 64); err == nil && n <= math.MaxUint64/unit {
		return n * unit, nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || unit == 1 || f < 0 || f*float64(unit) >= math.MaxInt64 || f != f {
		return 0, errdefs.New(errdefs.ErrInvalid, "want a number that is not negative")
	}
	return uint64(f * float64(unit)), nil
}

// parseString reads a quoted string and returns what follows it. A backslash takes
// the next character as it is; the other escapes have no use in these properties.
func parseString(text string) (s, rest string, err error) {
	wrong := errdefs.New(errdefs.ErrInvalid, "want a string in quotes")
	if text == "" || text[0] != '\'' && text[0] != '"' {
		return "", "", wrong
	}
	var out strings.Builder
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == text[0]:
			return out.String(), strings.TrimSpace(text[i+1:]), nil
		case c == 0:
			return "", "", wrong
		case c == '\\' && i+1 < len(text) && strings.IndexByte(`'"\`, text[i+1]) >= 0:
			i++
			out.WriteByte(text[i])
		case c == '\\':
			return "", "", errdefs.New(errdefs.ErrInvalid, "escape %q is not supported", text[i:min(i+2, len(text))])
		default:
			out.WriteByte(c)
		}
	}
	return "", "", wrong
}

// parseStrings reads a list of strings in brackets.
func parseStrings(text string) ([]string, error) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(strings.TrimPrefix(text, "@as ")), "[")
	list := []string{}
	for rest = strings.TrimSpace(rest); ok && rest != "]"; {
		var s string
		var err error
		if s, rest, err = parseString(rest); err != nil {
			return nil, err
		}
		list = append(list, s)
		if after, comma := strings.CutPrefix(rest, ","); comma {
			rest = strings.TrimSpace(after)
		} else if rest != "]" {
			ok = false
		}
	}
	if !ok {
		return nil, errdefs.New(errdefs.ErrInvalid, "want a list of strings in brackets")
	}
	return list, nil
}
