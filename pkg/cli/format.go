package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/template"

	"box/internal/errdefs"
)

// format is the value of --format: a Go template with Docker's functions,
// "table TEMPLATE" for the same with aligned columns, or "json".
type format struct {
	json  bool
	table bool
	tmpl  *template.Template
}

// parseFormat reads --format.
func parseFormat(text string) (*format, error) {
	if text == "json" {
		return &format{json: true}, nil
	}
	f := &format{}
	if rest, ok := strings.CutPrefix(text, "table "); ok {
		f.table, text = true, rest
	}
	// The escapes are for shells that hand over \t as two characters.
	text = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(text)
	tmpl, err := template.New("format").Funcs(functions).Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, usage(errdefs.New(errdefs.ErrInvalid, "read --format: %s", templateError(err)))
	}
	f.tmpl = tmpl
	return f, nil
}

// functions are the ones that Docker's templates have beside Go's own.
var functions = template.FuncMap{
	"json": func(v any) (string, error) {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		err := e.Encode(v)
		return strings.TrimSuffix(b.String(), "\n"), err
	},
	"join":     strings.Join,
	"split":    strings.Split,
	"lower":    strings.ToLower,
	"upper":    strings.ToUpper,
	"title":    title,
	"truncate": func(s string, n int) string { return string([]rune(s)[:min(n, len([]rune(s)))]) },
	"pad": func(s string, left, right int) string {
		return strings.Repeat(" ", left) + s + strings.Repeat(" ", right)
	},
}

func title(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// line writes one value and a line feed.
func (f *format) line(w io.Writer, v any) error {
	if f.json {
		text, err := functions["json"].(func(any) (string, error))(v)
		if err == nil {
			_, err = fmt.Fprintln(w, text)
		}
		return err
	}
	var b strings.Builder
	if err := f.tmpl.Execute(&b, v); err != nil {
		return usage(errdefs.New(errdefs.ErrInvalid, "use --format: %s", templateError(err)))
	}
	_, err := fmt.Fprintln(w, b.String())
	return err
}

// rows writes one line per row. With "table …" the header is made of the
// field names, as Docker does.
func rows[R any](w io.Writer, text string, headers map[string]string, all []R) error {
	f, err := parseFormat(text)
	if err != nil {
		return err
	}
	var t *table
	if f.table {
		t = newTable(w)
		w = t.w
		if err := f.line(w, headers); err != nil {
			return err
		}
	}
	for _, r := range all {
		if err := f.line(w, r); err != nil {
			return err
		}
	}
	if t != nil {
		return t.flush()
	}
	return nil
}

// templateError drops the words that only a Go programmer can use.
func templateError(err error) string {
	s := strings.TrimPrefix(err.Error(), "template: ")
	return strings.TrimPrefix(s, "format:1: ")
}
