package cli

import (
	"errors"
	"io/fs"
	"syscall"

	"box/internal/errdefs"
	"box/pkg/cli/argv"
)

// classHints are the ways out that follow from an error's class alone. A room
// that knows better has attached its own hint.
var classHints = []struct {
	class error
	hint  string
}{
	{errdefs.ErrUnauthorized, "log in with: box login HOST"},
	{errdefs.ErrUnavailable, "is it running, is its name right, and does the network reach it?"},
	{errdefs.ErrCorrupt, "nothing was changed; fetch or build it again"},
	{fs.ErrPermission, "is box run as root, and are the files not held by a security module?"},
	{syscall.ENOSPC, "the disk is full; box rmi and box rm free space"},
}

// hint is the sentence that is printed behind an error: the one that came
// with it, or one for its class, or for wrong usage the command's help.
func (a *app) hint(err error) string {
	if h := errdefs.Hint(err); h != "" {
		return h
	}
	for _, c := range classHints {
		if errors.Is(err, c.class) {
			return c.hint
		}
	}
	var u *usageError
	var unknown *argv.UnknownFlagError
	switch {
	case errors.As(err, &unknown) && unknown.Nearest != "":
		return "did you mean --" + unknown.Nearest + "?"
	case !errors.As(err, &u) || errors.Is(err, errdefs.ErrUnsupported):
		return ""
	case a.verb == "":
		return "see box help"
	}
	return "see box " + a.verb + " --help"
}
