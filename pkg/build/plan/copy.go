package plan

import (
	"path"
	"strconv"
	"strings"

	"box/internal/errdefs"
	"box/pkg/build/dockerfile"
	"box/pkg/image"
)

func (p *planner) copy(s *stage, i *dockerfile.Copy) error {
	c, text, err := p.copySpec(s, i)
	if err != nil {
		return err
	}
	from, err := p.copyFrom(s, i)
	if err != nil {
		return err
	}
	name := "COPY"
	if i.Add {
		name = "ADD"
	}
	p.layer(s, &Op{Kind: KindCopy, Copy: c, From: from, FromName: i.From}, i, name+text+" # buildkit")
	return nil
}

// copySpec expands the instruction; the text is its history entry.
func (p *planner) copySpec(s *stage, i *dockerfile.Copy) (*Copy, string, error) {
	head, err := p.words(s, []string{i.Dest, i.Chown, i.Chmod})
	if err != nil {
		return nil, "", err
	}
	sources, err := p.words(s, i.Sources)
	if err != nil {
		return nil, "", err
	}
	exclude, err := p.words(s, i.ExcludeGlob)
	if err != nil {
		return nil, "", err
	}
	inline, err := p.inline(s, i.Inline)
	if err != nil {
		return nil, "", err
	}
	dest := head[0]
	c := &Copy{Inline: inline, Chown: head[1], Chmod: head[2], Exclude: exclude}
	c.Unpack = i.Add && (i.Unpack == nil || *i.Unpack)
	c.Dest, c.DestDir = destination(s.config.Config.WorkingDir, dest)
	if len(sources)+len(inline) > 1 && !c.DestDir {
		return nil, "", errdefs.New(errdefs.ErrInvalid, "several sources need a destination that ends in /: %s", dest)
	}
	if err := checkMode(c.Chmod); err != nil {
		return nil, "", err
	}
	for _, src := range sources {
		if err := checkSource(i, src); err != nil {
			return nil, "", err
		}
		c.Sources = append(c.Sources, strings.TrimPrefix(path.Clean("/"+src), "/"))
	}
	return c, copyText(c, sources, dest), nil
}

func copyText(c *Copy, sources []string, dest string) string {
	var b strings.Builder
	if c.Chown != "" {
		b.WriteString(" --chown=" + c.Chown)
	}
	if c.Chmod != "" {
		b.WriteString(" --chmod=" + c.Chmod)
	}
	for _, src := range sources {
		b.WriteString(" " + src)
	}
	for _, f := range c.Inline {
		b.WriteString(" <<" + f.Name)
	}
	b.WriteString(" " + dest)
	return b.String()
}

func (p *planner) inline(s *stage, in []dockerfile.Inline) ([]File, error) {
	var out []File
	for _, f := range in {
		data := f.Data
		if f.Expand {
			var err error
			if data, err = p.expand.Raw(data, s.scope.lookup(s.config.Config.Env)); err != nil {
				return nil, err
			}
		}
		if f.Name == "" || strings.Contains(f.Name, "/") || f.Name == "." || f.Name == ".." {
			return nil, errdefs.New(errdefs.ErrInvalid, "heredoc %q: the name cannot be a file name", f.Name)
		}
		out = append(out, File{Name: f.Name, Data: data})
	}
	return out, nil
}

// destination resolves a destination against the working directory and says
// whether it was written as a directory.
func destination(workdir, dest string) (string, bool) {
	base := path.Base(dest)
	isDir := dest == "" || strings.HasSuffix(dest, "/") || base == "." || base == ".."
	if !path.IsAbs(dest) {
		dest = path.Join(absolute(workdir), dest)
	}
	return path.Clean(dest), isDir
}

// checkSource refuses the sources that are not files.
func checkSource(i *dockerfile.Copy, src string) error {
	remote := ""
	switch {
	case strings.HasPrefix(src, "http://"), strings.HasPrefix(src, "https://"):
		remote = "a URL"
	case strings.HasPrefix(src, "git@"), strings.HasPrefix(src, "git://"), strings.HasPrefix(src, "ssh://"):
		remote = "a git repository"
	}
	switch {
	case src == "":
		return errdefs.New(errdefs.ErrInvalid, "a source is empty")
	case remote != "" && i.Add:
		return errdefs.New(errdefs.ErrUnsupported, "ADD of %s (%s) is not supported yet", remote, src)
	case remote != "":
		return errdefs.New(errdefs.ErrInvalid, "the source of COPY cannot be %s: %s", remote, src)
	}
	return nil
}

// checkMode accepts what --chmod takes: octal digits up to 7777 or a symbolic mode.
func checkMode(mode string) error {
	if mode == "" {
		return nil
	}
	if _, err := ParseMode(mode); err != nil {
		return errdefs.New(errdefs.ErrInvalid, "--chmod=%s: %w", mode, err)
	}
	return nil
}

// copyFrom finds what --from names: an earlier stage by name or number, else an image.
func (p *planner) copyFrom(s *stage, i *dockerfile.Copy) (*Op, error) {
	if i.From == "" {
		return nil, nil
	}
	if index, ok := p.findStage(i.From, s.src.Index); ok {
		return p.stageOp(index)
	}
	if n, err := strconv.Atoi(i.From); err == nil {
		if n < 0 || n >= s.src.Index {
			return nil, errdefs.New(errdefs.ErrInvalid, "--from=%s: there is no earlier stage of that number", i.From)
		}
		return p.stageOp(n)
	}
	if strings.EqualFold(i.From, s.src.Name) {
		return nil, errdefs.New(errdefs.ErrInvalid, "--from=%s: a stage cannot copy from itself", i.From)
	}
	if strings.Contains(i.From, "$") {
		return nil, errdefs.WithHint(
			errdefs.New(errdefs.ErrInvalid, "--from=%s: variables are not expanded here", i.From),
			"name the image in a stage of its own: FROM %s AS name, then COPY --from=name", i.From)
	}
	op, _, err := p.imageOp(ImageRef{Name: i.From, Platform: image.FormatPlatform(s.platform)}, i.Where())
	return op, err
}

func (p *planner) stageOp(index int) (*Op, error) {
	s, err := p.stage(index)
	if err != nil {
		return nil, err
	}
	return s.op, nil
}
