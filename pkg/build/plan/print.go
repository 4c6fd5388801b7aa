package plan

import (
	"encoding/json"
	"fmt"
	"strings"

	"box/pkg/image"
)

// String prints the graph: one paragraph for each operation, then the image.
// Digests are left out, they would say the same again and change with every
// field; what is printed is what they are made of.
func (p *Plan) String() string {
	var b strings.Builder
	for _, o := range p.Ops {
		o.print(&b)
	}
	fmt.Fprintf(&b, "image of %d\n", p.Result.Index)
	for _, e := range p.History {
		layer := "-"
		if e.Op != nil {
			layer = fmt.Sprint(e.Op.Index)
		}
		fmt.Fprintf(&b, "  history %s: %s\n", layer, e.CreatedBy)
	}
	fmt.Fprintf(&b, "  platform: %s\n", image.FormatPlatform(p.Config.Platform))
	fmt.Fprintf(&b, "  config: %s\n", indented(p.Config.Config))
	if p.Epoch != nil {
		fmt.Fprintf(&b, "  epoch: %d\n", *p.Epoch)
	}
	for _, w := range p.Warnings {
		fmt.Fprintf(&b, "warning, line %d: %s\n", w.Line, w.Text)
	}
	return b.String()
}

func (o *Op) print(b *strings.Builder) {
	fmt.Fprintf(b, "%d %s", o.Index, o.Kind)
	if o.Base != nil {
		fmt.Fprintf(b, " on %d", o.Base.Index)
	}
	switch {
	case o.From != nil:
		fmt.Fprintf(b, " from %d", o.From.Index)
	case o.FromContext():
		b.WriteString(" from context")
	}
	fmt.Fprintf(b, "  # line %d: %s\n", o.Pos.Start, o.Name)
	if spec := o.Spec(); spec != nil && o.Kind != KindScratch {
		fmt.Fprintf(b, "  %s\n", indented(spec))
	}
	if o.Run != nil && len(o.Run.Proxy) > 0 {
		fmt.Fprintf(b, "  proxy %s\n", strings.Join(o.Run.Proxy, " "))
	}
}

func indented(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("  ", "  ")
	if err := e.Encode(v); err != nil {
		return err.Error()
	}
	return strings.TrimRight(b.String(), "\n")
}
