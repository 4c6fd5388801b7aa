package guest

import (
	"os"
	"path/filepath"
	"strings"

	"box/internal/testkit/vm"
)

// groupRoot is where the one hierarchy is mounted.
const groupRoot = "/sys/fs/cgroup"

// Names of the groups of the command. A group has either processes or controllers
// for its children ("no internal processes", Documentation/admin-guide/cgroup-v2.rst), so the
// command of a user stands in a leaf of the delegated group.
const (
	commandGroup = "command"
	userGroup    = "user"
)

// makeGroups enables every controller for the children of the root and puts this
// process, and so the command, into a group of its own. With systemd it leaves everything to it.
func makeGroups(mode vm.Mode) error {
	switch {
	case mode.HasSystemd():
		return nil
	case mode == vm.User:
		return delegate()
	}
	if err := enable(groupRoot); err != nil {
		return err
	}
	return enter(filepath.Join(groupRoot, commandGroup))
}

// enable passes all controllers of a group on to its children.
func enable(dir string) error {
	all, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	var words []string
	for _, name := range strings.Fields(string(all)) {
		words = append(words, "+"+name)
	}
	return os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte(strings.Join(words, " ")), 0)
}

// enter makes a group and moves this process into it.
func enter(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0)
}

// delegate makes a group that belongs to the user, as the kernel's document
// describes it ("Delegation"), with the command's leaf in it.
func delegate() error {
	if err := enable(groupRoot); err != nil {
		return err
	}
	dir := filepath.Join(groupRoot, userGroup)
	leaf := filepath.Join(dir, commandGroup)
	if err := enter(leaf); err != nil {
		return err
	}
	if err := enable(dir); err != nil {
		return err
	}
	files := []string{"", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"}
	for _, group := range []string{dir, leaf} {
		for _, name := range files {
			if err := os.Chown(filepath.Join(group, name), userID, userID); err != nil {
				return err
			}
		}
	}
	return nil
}
