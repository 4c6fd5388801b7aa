package plan

import (
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Environment returns the environment of a process, with HOME in it: engines leave it to
// the runtime to look up the home directory of the command's user, as runc does. home is
// asked for it only if the process does not say.
//
// Of several entries with one name only the last is kept: which one counts would be up
// to the command, and to its C library.
func Environment(p *specs.Process, home func(uid uint32) string) []string {
	env := lastOfEach(p.Env)
	if home, _ := lookup(env, "HOME"); home != "" {
		return env
	}
	kept := make([]string, 0, len(env)+1)
	for _, e := range env { // an empty HOME counts as none, and must not stand before ours
		if e != "HOME=" {
			kept = append(kept, e)
		}
	}
	return append(kept, "HOME="+home(p.User.UID))
}

// lookup returns the value of the last NAME= entry, which is the one that counts, and
// whether there is one.
func lookup(env []string, name string) (string, bool) {
	for i := len(env) - 1; i >= 0; i-- {
		if v, ok := strings.CutPrefix(env[i], name+"="); ok {
			return v, true
		}
	}
	return "", false
}

// lastOfEach returns an environment without the entries that a later one overrides, in
// the order of those that remain. Nearly always that is the environment itself.
func lastOfEach(env []string) []string {
	at := make(map[string]int, len(env))
	for i, e := range env {
		name, _, _ := strings.Cut(e, "=")
		at[name] = i
	}
	if len(at) == len(env) {
		return env
	}
	kept := make([]string, 0, len(at))
	for i, e := range env {
		if name, _, _ := strings.Cut(e, "="); at[name] == i {
			kept = append(kept, e)
		}
	}
	return kept
}
