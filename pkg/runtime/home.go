package runtime

import (
	"os"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/pkg/spec/gen"
)

// withHome returns the environment with HOME in it: engines leave it to the runtime
// to look up the home directory of the command's user, as runc does.
func withHome(p *specs.Process, root string) []string {
	if home, _ := environment(p.Env, "HOME"); home != "" {
		return p.Env
	}
	env := make([]string, 0, len(p.Env)+1)
	for _, e := range p.Env { // an empty HOME counts as none, and must not stand before ours
		if e != "HOME=" {
			env = append(env, e)
		}
	}
	return append(env, "HOME="+home(root, p.User.UID))
}

// home looks a user up in the passwd of a root directory; "/" if it is not there,
// or if the file is none that we would read (it belongs to the image).
func home(root string, uid uint32) string {
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "/"
	}
	dir := os.NewFile(uintptr(fd), root)
	defer dir.Close()
	_, home, err := gen.ResolveUser(dir, strconv.FormatUint(uint64(uid), 10))
	if err != nil || home == "" {
		return "/"
	}
	return home
}
