package plan

import (
	"strconv"

	"box/pkg/build/dockerfile"
	"box/pkg/image"
)

// Images lists the images that the target needs, as far as the file alone
// tells (an ONBUILD trigger of a base may ask for more), so that they can be
// resolved at once before planning.
func Images(file *dockerfile.File, opts Options) ([]ImageRef, error) {
	p, target, err := newPlanner(file, opts)
	if err != nil {
		return nil, err
	}
	w := &imageWalk{planner: p, seen: map[int]bool{}, refs: map[ImageRef]bool{}}
	err = w.stage(target)
	return w.list, err
}

type imageWalk struct {
	*planner
	seen map[int]bool
	refs map[ImageRef]bool
	list []ImageRef
}

func (w *imageWalk) stage(index int) error {
	if w.seen[index] {
		return nil
	}
	w.seen[index] = true
	src := w.file.Stages[index]
	name, err := w.expand.Word(src.Base, w.globals.get)
	if err != nil {
		return w.file.ErrorAt(src.Pos, err)
	}
	platform, err := w.stagePlatform(src)
	if err != nil {
		return w.file.ErrorAt(src.Pos, err)
	}
	if err := w.need(name, index, image.FormatPlatform(platform), false); err != nil {
		return err
	}
	for _, ins := range src.Instructions {
		if c, ok := ins.(*dockerfile.Copy); ok && c.From != "" {
			if err := w.need(c.From, index, image.FormatPlatform(platform), true); err != nil {
				return err
			}
		}
	}
	return nil
}

// need follows a name to a stage or notes it as an image.
func (w *imageWalk) need(name string, before int, platform string, numbers bool) error {
	if i, ok := w.findStage(name, before); ok {
		return w.stage(i)
	}
	if n, err := strconv.Atoi(name); err == nil && numbers {
		if n >= 0 && n < before {
			return w.stage(n)
		}
		return nil // reported with its line by New
	}
	ref := ImageRef{Name: name, Platform: platform}
	if name != "" && name != "scratch" && !w.refs[ref] {
		w.refs[ref] = true
		w.list = append(w.list, ref)
	}
	return nil
}
