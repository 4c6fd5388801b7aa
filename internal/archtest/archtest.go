// Package archtest holds the imports of the source against the table of rooms in
// docs/architecture.md: who may import whom, which third parties belong where,
// and what must never be linked into box-runtime.
//
// It judges no style and no sizes. It reads the page and what `go list` says;
// imports of test files are free. Invariant: a package that no row of the table
// covers is an error, so nothing escapes by being new.
package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Room is one row of the table.
type Room struct {
	// Path is the room's directory below the module, as "pkg/network".
	Path string
	// Floor is where it stands; imports go to lower floors only.
	Floor int
	// MayImport are rooms by path; a trailing /* adds all packages below.
	MayImport []string
	// ThirdParties are prefixes of import paths.
	ThirdParties []string
}

// Plan is what docs/architecture.md says of imports.
type Plan struct {
	Rooms []Room
	// Open are third parties that every room may import.
	Open []string
	// Deny are packages that box-runtime must not link, not even indirectly.
	Deny []string
}

// ReadPlan reads the plan from the page at file.
func ReadPlan(file string) (*Plan, error) {
	page, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read plan: %w", err)
	}
	rooms, errRooms := section(string(page), "rooms")
	open, errOpen := section(string(page), "open")
	deny, errDeny := section(string(page), "deny")
	if err := errors.Join(errRooms, errOpen, errDeny); err != nil {
		return nil, fmt.Errorf("read plan %s: %w", file, err)
	}
	p := &Plan{Open: quoted(open), Deny: quoted(deny)}
	for line := range strings.Lines(rooms) {
		if room, ok := readRow(line); ok {
			p.Rooms = append(p.Rooms, room)
		}
	}
	if len(p.Rooms) == 0 {
		return nil, fmt.Errorf("read plan %s: the table of rooms is empty", file)
	}
	return p, nil
}

// section is the text between the markers <!-- name:begin --> and <!-- name:end -->.
func section(page, name string) (string, error) {
	_, rest, begun := strings.Cut(page, "<!-- "+name+":begin -->")
	text, _, ended := strings.Cut(rest, "<!-- "+name+":end -->")
	if !begun || !ended {
		return "", fmt.Errorf("the section %q is missing", name)
	}
	return text, nil
}

// readRow reads | floor | `room` | responsibility | `import`, … | `third party`, … |.
// Other lines of the table are skipped.
func readRow(line string) (Room, bool) {
	cells := strings.Split(line, "|")
	if len(cells) != 7 {
		return Room{}, false
	}
	floor, err := strconv.Atoi(strings.TrimSpace(cells[1]))
	name := quoted(cells[2])
	if err != nil || len(name) != 1 {
		return Room{}, false
	}
	return Room{Path: name[0], Floor: floor, MayImport: quoted(cells[4]), ThirdParties: quoted(cells[5])}, true
}

// quoted are the words in backquotes.
func quoted(s string) (words []string) {
	parts := strings.Split(s, "`")
	for i := 1; i < len(parts); i += 2 {
		words = append(words, parts[i])
	}
	return words
}

// Package is what `go list` tells of a package.
type Package struct {
	ImportPath string
	Standard   bool
	Imports    []string
	Deps       []string
}

// Packages lists the packages of the module in dir, built for Linux without cgo.
func Packages(dir string) ([]Package, error) {
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Standard,Imports,Deps", "./...")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	var messages bytes.Buffer
	cmd.Stderr = &messages
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list packages: %w: %s", err, &messages)
	}
	var all []Package
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p Package
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("list packages: %w", err)
		}
		all = append(all, p)
	}
}

// outside are directories that hold no part of the programs.
var outside = []string{"test", "scripts"}

// Check compares the packages of module with the plan and describes each breach
// in a sentence.
func (p *Plan) Check(module string, packages []Package) (breaches []string) {
	standard := map[string]bool{}
	for _, pkg := range packages {
		standard[pkg.ImportPath] = pkg.Standard
	}
	for _, pkg := range packages {
		at, ours := strings.CutPrefix(pkg.ImportPath, module+"/")
		if !ours || slices.ContainsFunc(outside, func(dir string) bool { return under(at, dir) }) {
			continue
		}
		room, ok := p.room(at)
		if !ok {
			breaches = append(breaches, at+" stands in no row of the table")
			continue
		}
		for _, imported := range pkg.Imports {
			if what := p.judge(room, module, imported, standard[imported]); what != "" {
				breaches = append(breaches, at+" imports "+imported+": "+what)
			}
		}
		if at == "cmd/box-runtime" {
			breaches = append(breaches, p.denied(at, pkg.Deps)...)
		}
	}
	return append(breaches, p.inconsistencies()...)
}

// judge says what is wrong with an import, or nothing.
func (p *Plan) judge(from Room, module, imported string, standard bool) string {
	to, ours := strings.CutPrefix(imported, module+"/")
	switch {
	case standard:
		return ""
	case testsOnly(from):
		return ""
	case ours:
		return p.judgeRoom(from, to)
	case slices.ContainsFunc(slices.Concat(p.Open, from.ThirdParties), func(t string) bool { return under(imported, t) }):
		return ""
	}
	return "this third party is not listed for " + from.Path
}

// judgeRoom judges an import of a package of our own.
func (p *Plan) judgeRoom(from Room, to string) string {
	room, ok := p.room(to)
	switch {
	case !ok:
		return "it stands in no row of the table"
	case room.Path == from.Path || room.Floor == 0 && !testsOnly(room):
		return ""
	case room.Floor >= from.Floor:
		return fmt.Sprintf("arrows go down only, from floor %d to %d", from.Floor, room.Floor)
	case slices.ContainsFunc(from.MayImport, func(m string) bool { return allows(m, to) }):
		return ""
	}
	return from.Path + " may not import it"
}

// testsOnly tells whether the room is for test files alone: it may import anything,
// and no program may import it.
func testsOnly(r Room) bool {
	return r.Path == "internal/testkit" || r.Path == "internal/archtest"
}

// allows tells whether an entry of "may import" covers the package at to. Without
// /* it covers the room's own package and those below, unless they have a row of
// their own (then judgeRoom has found that row).
func allows(entry, to string) bool {
	return under(to, strings.TrimSuffix(entry, "/*"))
}

// room finds the row for the package at path: the longest that covers it.
func (p *Plan) room(at string) (best Room, ok bool) {
	for _, r := range p.Rooms {
		if under(at, r.Path) && len(r.Path) > len(best.Path) {
			best, ok = r, true
		}
	}
	return best, ok
}

// under tells whether path is dir or lies below it.
func under(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

// denied lists what of the deny list is linked.
func (p *Plan) denied(at string, deps []string) (breaches []string) {
	for _, dep := range deps {
		if slices.ContainsFunc(p.Deny, func(d string) bool { return under(dep, d) }) {
			breaches = append(breaches, at+" links "+dep+", which is on the deny list")
		}
	}
	return breaches
}

// inconsistencies are mistakes in the table itself: an allowed import that does
// not go down, or names no room.
func (p *Plan) inconsistencies() (breaches []string) {
	for _, r := range p.Rooms {
		if testsOnly(r) {
			continue
		}
		for _, m := range r.MayImport {
			to := strings.TrimSuffix(m, "/*")
			if path.Dir(to) == "." {
				continue // pkg/*: everything below
			}
			room, ok := p.room(to)
			if !ok || room.Floor >= r.Floor {
				breaches = append(breaches, fmt.Sprintf("the table lets %s (floor %d) import %s, which is not below it", r.Path, r.Floor, m))
			}
		}
	}
	return breaches
}
