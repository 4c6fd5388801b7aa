package image

import (
	"strings"

	"box/internal/errdefs"

	"github.com/opencontainers/go-digest"
)

// Reference names an image in a registry, in full. Its fields follow Docker's
// normalisation: "busybox" is docker.io/library/busybox:latest.
//
// The grammar is that of github.com/distribution/reference, which the tests
// compare against. It is written out here because that package compiles its
// regular expressions when a program starts: half a millisecond for every
// command, also for those that never see a reference.
type Reference struct {
	Registry   string        // "docker.io", "localhost:5000", "[::1]:5000"
	Repository string        // "library/busybox"
	Tag        string        // "latest"; empty if only a digest was given
	Digest     digest.Digest // empty if none was given
}

// DefaultTag is what a reference without tag and digest means.
const DefaultTag = "latest"

// maxRepository bounds the repository name including the registry, as the
// distribution spec does.
const maxRepository = 255

// ParseReference reads a reference as users write it and normalises it.
// A name without tag and digest gets the tag "latest".
func ParseReference(s string) (Reference, error) {
	ref, why := parseReference(s)
	if why != "" {
		return Reference{}, errdefs.New(errdefs.ErrInvalid, "image reference %q: %s", s, why)
	}
	return ref, nil
}

// parseReference returns the reference, or what is wrong with it.
func parseReference(s string) (ref Reference, why string) {
	if isHexID(s) {
		return ref, "64 hexadecimal digits are an image id, not a name"
	}
	rest, dig, pinned := strings.Cut(s, "@")
	if pinned {
		ref.Digest = digest.Digest(dig)
		if CheckDigest(ref.Digest) != nil {
			return ref, "what follows @ is not a sha256 or sha512 digest"
		}
	}
	ref.Registry, rest = splitRegistry(rest)
	// The last colon after the last slash starts the tag.
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') {
		ref.Tag, rest = rest[i+1:], rest[:i]
		if !validTag(ref.Tag) {
			return ref, "a tag has letters, digits, '_', '.', '-', at most 128, and starts with none of the last two"
		}
	} else if !pinned {
		ref.Tag = DefaultTag
	}
	if ref.Registry == "docker.io" && !strings.Contains(rest, "/") {
		rest = "library/" + rest
	}
	ref.Repository = rest
	return ref, checkName(ref)
}

// splitRegistry decides whether the first word is a registry: it is if it has a
// dot or a colon, is "localhost", or is not lower case (then it cannot be the
// start of a repository).
func splitRegistry(s string) (registry, rest string) {
	word, rest, ok := strings.Cut(s, "/")
	if !ok || !strings.ContainsAny(word, ".:") && word != "localhost" && strings.ToLower(word) == word {
		return "docker.io", s
	}
	if word == "index.docker.io" {
		word = "docker.io"
	}
	return word, rest
}

// checkName checks registry and repository.
func checkName(ref Reference) string {
	switch {
	case ref.Repository == "" || ref.Repository == "library/":
		return "the name is empty"
	case len(ref.Registry)+1+len(ref.Repository) > maxRepository:
		return "the name is longer than 255 bytes"
	case !validRegistry(ref.Registry):
		return "the registry is not host[:port]"
	case strings.ToLower(ref.Repository) != ref.Repository:
		return "the repository must be lower case"
	}
	for word := range strings.SplitSeq(ref.Repository, "/") {
		if !validWord(word) {
			return "a repository has words of a-z and 0-9, joined by '.', '_', '__' or dashes, separated by '/'"
		}
	}
	return ""
}

// validWord accepts [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*.
func validWord(w string) bool {
	prev := byte(0) // the separator run we are in, 0 if none
	run := 0
	if w == "" {
		return false
	}
	for i := range len(w) {
		c := w[i]
		switch {
		case isLowerDigit(c):
			prev, run = 0, 0
			continue
		case c != '.' && c != '_' && c != '-':
			return false
		case i == 0 || i == len(w)-1:
			return false
		case prev != 0 && prev != c:
			return false
		}
		prev = c
		run++
		if c == '.' && run > 1 || c == '_' && run > 2 {
			return false
		}
	}
	return true
}

// validTag accepts [A-Za-z0-9_][A-Za-z0-9_.-]{0,127}.
func validTag(t string) bool {
	if t == "" || len(t) > 128 || t[0] == '.' || t[0] == '-' {
		return false
	}
	for i := range len(t) {
		c := t[i]
		if !isAlnum(c) && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

// validRegistry accepts a host name or an address in brackets, with a port.
func validRegistry(r string) bool {
	host, port, ok := r, "", false
	if i := strings.LastIndexByte(r, ':'); i >= 0 && !strings.HasSuffix(r, "]") {
		host, port, ok = r[:i], r[i+1:], true
	}
	if ok && (port == "" || strings.Trim(port, "0123456789") != "") {
		return false
	}
	if inner, isV6 := strings.CutPrefix(host, "["); isV6 {
		inner, closed := strings.CutSuffix(inner, "]")
		return closed && inner != "" && strings.Trim(inner, "0123456789abcdefABCDEF:") == ""
	}
	for label := range strings.SplitSeq(host, ".") {
		if !validLabel(label) {
			return false
		}
	}
	return true
}

// validLabel accepts one label of a host name.
func validLabel(l string) bool {
	if l == "" || l[0] == '-' || l[len(l)-1] == '-' {
		return false
	}
	for i := range len(l) {
		if !isAlnum(l[i]) && l[i] != '-' {
			return false
		}
	}
	return true
}

func isLowerDigit(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }
func isAlnum(c byte) bool      { return isLowerDigit(c) || 'A' <= c && c <= 'Z' }

// isHexID reports whether s is a full image id, which cannot be a name.
func isHexID(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

// Name is registry and repository: what tags and digests are attached to.
func (r Reference) Name() string { return r.Registry + "/" + r.Repository }

// String writes the reference in full.
func (r Reference) String() string {
	s := r.Name()
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest.String()
	}
	return s
}

// Tagged is the reference without its digest: the name the store tags.
// It is empty if there is no tag.
func (r Reference) Tagged() string {
	if r.Tag == "" {
		return ""
	}
	return r.Name() + ":" + r.Tag
}

// Familiar writes the reference as short as Docker shows it.
func (r Reference) Familiar() string {
	short := r
	if r.Registry == "docker.io" {
		s := strings.TrimPrefix(r.String(), "docker.io/")
		if rest, ok := strings.CutPrefix(s, "library/"); ok && !strings.Contains(rest, "/") {
			return rest
		}
		return s
	}
	return short.String()
}
