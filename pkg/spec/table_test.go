package spec

import (
	"bufio"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// tableFile is the page that says of each field what becomes of it.
const tableFile = "../../docs/spec.md"

// tableRow is one row of the page.
type tableRow struct {
	line   int
	fields []string // paths
	done   string   // what is done with them, or "refused: reason"
	tests  string
}

// readTable reads the rows of the page. A heading gives the path that the fields of
// the rows below it begin with.
func readTable(t *testing.T) (rows []tableRow) {
	t.Helper()
	f, err := os.Open(tableFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	section := ""
	for lines, n := bufio.NewScanner(f), 1; lines.Scan(); n++ {
		line := lines.Text()
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			section = strings.TrimPrefix(heading+".", "top level.")
		}
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		if len(cells) != 3 {
			t.Errorf("%s:%d: %d cells, want 3", tableFile, n, len(cells))
			continue
		}
		row := tableRow{line: n, done: cells[1], tests: cells[2]}
		for field := range strings.SplitSeq(cells[0], ", ") {
			row.fields = append(row.fields, section+strings.Trim(field, "`"))
		}
		rows = append(rows, row)
	}
	return rows
}

// expand replaces the path of a whole section by those of the fields in it.
func expand(path string, all []string) []string {
	var below []string
	for _, p := range all {
		if p == path || strings.HasPrefix(p, path+".") {
			below = append(below, p)
		}
	}
	return below
}

// TestEveryFieldIsDecided holds the page and the list of refusals against the
// specification's types: each field stands there once, and is refused if and only if
// the page says so. A field that a new release of the specification adds fails it.
func TestEveryFieldIsDecided(t *testing.T) {
	all := leaves(reflect.TypeFor[specs.Spec](), "")
	if len(all) < 200 {
		t.Errorf("only %d fields found", len(all))
	}
	decided := map[string]int{}
	for _, row := range readTable(t) {
		for _, field := range row.fields {
			below := expand(field, all)
			if len(below) == 0 {
				t.Errorf("%s:%d: %s is no field of the specification", tableFile, row.line, field)
			}
			for _, path := range below {
				if first := decided[path]; first != 0 {
					t.Errorf("%s:%d: %s stands in line %d already", tableFile, row.line, path, first)
				}
				decided[path] = row.line
				if says := strings.HasPrefix(row.done, "refused: "); says != isRefused(path) {
					t.Errorf("%s:%d: %s: the page says refused %v, the code %v", tableFile, row.line, path, says, isRefused(path))
				}
			}
		}
	}
	for _, path := range all {
		if decided[path] == 0 {
			t.Errorf("%s: %s is missing", tableFile, path)
		}
	}
	for _, r := range refused {
		if len(expand(r.path, all)) == 0 {
			t.Errorf("refused: %s is no field of the specification", r.path)
		}
	}
}

// TestNamedTestsExist looks for each test that the page names, in the package that it
// names before it.
func TestNamedTestsExist(t *testing.T) {
	found := map[string][]string{}
	for _, row := range readTable(t) {
		dir := ""
		for word := range strings.FieldsFuncSeq(row.tests, func(r rune) bool { return strings.ContainsRune(" ,;`", r) }) {
			if strings.Contains(word, "/") {
				dir = word
				continue
			}
			if found[dir] == nil {
				found[dir] = testsIn(t, filepath.Join("../..", dir))
			}
			if !slices.Contains(found[dir], word) {
				t.Errorf("%s:%d: %s has no %s", tableFile, row.line, dir, word)
			}
		}
		if dir == "" {
			t.Errorf("%s:%d: no test is named", tableFile, row.line)
		}
	}
}

// TestNamedFunctionsExist looks for each function that the page names as `room.function`
// in the files of that room.
func TestNamedFunctionsExist(t *testing.T) {
	name := regexp.MustCompile("`([a-z]+)\\.([A-Za-z]+)`")
	for _, row := range readTable(t) {
		for _, found := range name.FindAllStringSubmatch(row.done, -1) {
			room, function := found[1], found[2]
			files, err := filepath.Glob(filepath.Join("..", room, "*.go"))
			if err != nil {
				t.Fatal(err)
			}
			if len(files) == 0 {
				continue // an interface file of the kernel, such as memory.max
			}
			defined := regexp.MustCompile(`(?m)^func (\([^)]*\) )?` + function + `\(`)
			if !slices.ContainsFunc(files, func(file string) bool {
				text, err := os.ReadFile(file)
				return err == nil && !strings.HasSuffix(file, "_test.go") && defined.Match(text)
			}) {
				t.Errorf("%s:%d: no function %s in pkg/%s", tableFile, row.line, function, room)
			}
		}
	}
}

// testsIn lists the tests of a directory.
func testsIn(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests in %s: %v", dir, err)
	}
	var names []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.SplitSeq(string(text), "\n") {
			if rest, ok := strings.CutPrefix(line, "func "); ok && strings.HasPrefix(rest, "Test") {
				name, _, _ := strings.Cut(rest, "(")
				names = append(names, name)
			}
		}
	}
	return names
}
