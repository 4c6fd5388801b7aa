// Package house measures the source against the house rules that a parser can
// judge (docs/style.md): sizes, documentation, the form of error texts, calls
// that have a safer form. It reads files only; imports are checked by
// internal/archtest.
package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The bar; see docs/style.md.
const (
	MaxFunction    = 100 // lines of the body
	MedianFunction = 9   // the same
	MaxFile        = 600 // lines
	MaxPackage     = 3000
	MinDocumented  = 0.92 // share of exported names with a comment
)

// large are the packages that have a reason to be larger than MaxPackage.
var large = map[string]string{
	"pkg/cli":     "one file per verb, each with its flags and their explanations",
	"pkg/runtime": "the OCI life cycle, one file per verb and one per thing that create prepares",
}

// foreignWords are the packages whose messages repeat runc's on purpose:
// engines look for them.
var foreignWords = []string{"pkg/runtime", "pkg/plan", "pkg/cgroups", "cmd/box-runtime"}

// Metrics are the figures of a source tree without its tests.
type Metrics struct {
	Lines, TestLines       int
	Functions              []int // lengths, sorted
	Exported, Documented   int
	Findings               []string // "file:line: what", sorted
	packageDoc             map[string]bool
	packageLines, packages map[string]int
}

// Measure reads all Go files below root.
func Measure(root string) (*Metrics, error) {
	m := &Metrics{packageDoc: map[string]bool{}, packageLines: map[string]int{}, packages: map[string]int{}}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && path != root):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go"):
			return nil
		}
		return m.file(path)
	})
	m.finish()
	return m, err
}

// Median is the length that half of the functions do not exceed.
func (m *Metrics) Median() int { return m.percentile(50) }

func (m *Metrics) percentile(p int) int {
	if len(m.Functions) == 0 {
		return 0
	}
	return m.Functions[(len(m.Functions)-1)*p/100]
}

func (m *Metrics) String() string {
	return fmt.Sprintf("%d lines, %d test lines (%.2f); functions: %d, median %d, p90 %d, longest %d; exported documented %d of %d",
		m.Lines, m.TestLines, float64(m.TestLines)/float64(max(m.Lines, 1)),
		len(m.Functions), m.Median(), m.percentile(90), m.percentile(100), m.Documented, m.Exported)
}

func (m *Metrics) find(fset *token.FileSet, pos token.Pos, format string, a ...any) {
	p := fset.Position(pos)
	m.Findings = append(m.Findings, fmt.Sprintf("%s:%d: %s", p.Filename, p.Line, fmt.Sprintf(format, a...)))
}

func (m *Metrics) file(path string) error {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
	if err != nil {
		return err
	}
	lines := fset.File(f.Pos()).LineCount()
	if lines > MaxFile && !ast.IsGenerated(f) {
		m.find(fset, f.Pos(), "file has %d lines, more than %d", lines, MaxFile)
	}
	if strings.HasSuffix(path, "_test.go") {
		m.TestLines += lines
		return nil
	}
	dir := filepath.Dir(path)
	m.Lines += lines
	m.packageLines[dir] += lines
	m.packages[dir]++
	m.packageDoc[dir] = m.packageDoc[dir] || f.Doc != nil || hasBuildTag(f)
	if !ast.IsGenerated(f) {
		m.declarations(fset, f)
		m.texts(fset, f)
	}
	return nil
}

// hasBuildTag tells files that are no part of the programs, such as tools.
func hasBuildTag(f *ast.File) bool {
	return slices.ContainsFunc(f.Comments, func(g *ast.CommentGroup) bool {
		return g.Pos() < f.Package && strings.HasPrefix(g.List[0].Text, "//go:build deps")
	})
}

func (m *Metrics) declarations(fset *token.FileSet, f *ast.File) {
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			m.function(fset, d)
		case *ast.GenDecl:
			m.general(d)
		}
	}
}

func (m *Metrics) function(fset *token.FileSet, d *ast.FuncDecl) {
	n := 1 // lines of the body
	if d.Body != nil {
		n = max(n, fset.Position(d.Body.Rbrace).Line-fset.Position(d.Body.Lbrace).Line-1)
	}
	m.Functions = append(m.Functions, n)
	if n > MaxFunction {
		m.find(fset, d.Pos(), "func %s has %d lines, more than %d", d.Name.Name, n, MaxFunction)
	}
	if d.Name.IsExported() && exportedReceiver(d) {
		m.exported(d.Doc != nil || isErrorMethod(d))
	}
}

// isErrorMethod spares the methods whose meaning the language fixes.
func isErrorMethod(d *ast.FuncDecl) bool {
	return d.Recv != nil && slices.Contains([]string{"Error", "Unwrap", "Is", "String", "Close"}, d.Name.Name)
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return true
	}
	t := d.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return false
		}
	}
}

func (m *Metrics) general(d *ast.GenDecl) {
	for _, s := range d.Specs {
		switch s := s.(type) {
		case *ast.TypeSpec:
			if s.Name.IsExported() {
				m.exported(d.Doc != nil || s.Doc != nil || s.Comment != nil)
			}
		case *ast.ValueSpec:
			if s.Names[0].IsExported() {
				m.exported(d.Doc != nil || s.Doc != nil || s.Comment != nil)
			}
		}
	}
}

func (m *Metrics) exported(documented bool) {
	m.Exported++
	if documented {
		m.Documented++
	}
}

// errorCalls are the functions whose first text becomes an error.
var errorCalls = map[string]int{"fmt.Errorf": 0, "errors.New": 0, "errdefs.New": 1}

// badStart are beginnings that say nothing.
var badStart = regexp.MustCompile(`^(failed|error|unable|could not|couldn't|can't)\b`)

// unsafeCalls have a form that cannot be led astray or torn by a crash.
var unsafeCalls = map[string]string{
	"ioutil.ReadAll":  "io.ReadAll",
	"os.IsNotExist":   "errors.Is: os.IsNotExist does not look through wrapping",
	"os.IsExist":      "errors.Is: os.IsExist does not look through wrapping",
	"os.IsPermission": "errors.Is: os.IsPermission does not look through wrapping",
	"time.Sleep":      "waiting for the event itself (pidfd, inotify, socket)",
}

func (m *Metrics) texts(fset *token.FileSet, f *ast.File) {
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		name := callName(call)
		if better, ok := unsafeCalls[name]; ok {
			m.find(fset, call.Pos(), "%s: use %s", name, better)
		}
		if i, ok := errorCalls[name]; ok && len(call.Args) > i {
			m.errorText(fset, call.Args[i])
		}
		return true
	})
}

func callName(call *ast.CallExpr) string {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	x, ok := sel.X.(*ast.Ident)
	if !ok {
		return ""
	}
	return x.Name + "." + sel.Sel.Name
}

func (m *Metrics) errorText(fset *token.FileSet, arg ast.Expr) {
	lit, ok := arg.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return
	}
	text, err := strconv.Unquote(lit.Value)
	if err != nil {
		return
	}
	file := filepath.ToSlash(fset.Position(arg.Pos()).Filename)
	if slices.ContainsFunc(foreignWords, func(dir string) bool { return strings.Contains(file, dir+"/") }) {
		return
	}
	if badStart.MatchString(strings.ToLower(text)) {
		m.find(fset, lit.Pos(), "error text %q: say verb and object", text)
	}
}

func hasReason(dir string) bool {
	for name := range large {
		if strings.HasSuffix(filepath.ToSlash(dir), name) {
			return true
		}
	}
	return false
}

func (m *Metrics) finish() {
	slices.Sort(m.Functions)
	for dir, ok := range m.packageDoc {
		if !ok {
			m.Findings = append(m.Findings, dir+": package without a doc comment")
		}
	}
	for dir, n := range m.packageLines {
		if n > MaxPackage && !hasReason(dir) {
			m.Findings = append(m.Findings, fmt.Sprintf("%s: package has %d lines, more than %d", dir, n, MaxPackage))
		}
	}
	slices.Sort(m.Findings)
}
