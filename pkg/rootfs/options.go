package rootfs

import (
	"slices"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
)

// options are the option words of one mount, sorted by what the kernel does with them.
type options struct {
	bind, recursive bool
	remount         bool // change what is mounted there, mount nothing
	copyUp          bool // a tmpfs begins with what it covers (tmpcopyup)
	// mapped says that the mount's owners are translated (idmap), mapAll those of all
	// mounts below too (ridmap).
	mapped, mapAll bool
	// set and clear are MOUNT_ATTR_… bits for the mount itself; setAll and clearAll
	// those for all mounts below it too (rro and its like). named says that a word has
	// asked for any of set and clear, if only by confirming a default.
	set, clear, setAll, clearAll uint64
	named                        bool
	// propagation is MS_SHARED …, and propagateAll says that it goes for all mounts
	// below too.
	propagation  uint64
	propagateAll bool
	// data are the file system's own: key, or key=value.
	data []string
}

// attrWords are the words for attributes of a mount. The same words with an r before
// them ask for all mounts below as well.
var attrWords = [...]struct {
	word       string
	set, clear uint64
}{
	{"ro", unix.MOUNT_ATTR_RDONLY, 0},
	{"rw", 0, unix.MOUNT_ATTR_RDONLY},
	{"nosuid", unix.MOUNT_ATTR_NOSUID, 0},
	{"suid", 0, unix.MOUNT_ATTR_NOSUID},
	{"nodev", unix.MOUNT_ATTR_NODEV, 0},
	{"dev", 0, unix.MOUNT_ATTR_NODEV},
	{"noexec", unix.MOUNT_ATTR_NOEXEC, 0},
	{"exec", 0, unix.MOUNT_ATTR_NOEXEC},
	{"nosymfollow", unix.MOUNT_ATTR_NOSYMFOLLOW, 0},
	{"symfollow", 0, unix.MOUNT_ATTR_NOSYMFOLLOW},
	{"nodiratime", unix.MOUNT_ATTR_NODIRATIME, 0},
	{"diratime", 0, unix.MOUNT_ATTR_NODIRATIME},
	{"noatime", unix.MOUNT_ATTR_NOATIME, unix.MOUNT_ATTR__ATIME},
	{"strictatime", unix.MOUNT_ATTR_STRICTATIME, unix.MOUNT_ATTR__ATIME},
	{"relatime", unix.MOUNT_ATTR_RELATIME, unix.MOUNT_ATTR__ATIME},
	// The kernel's answer to the absence of the three above is relatime. See addAttr
	// for what these mean without an r.
	{"atime", unix.MOUNT_ATTR_RELATIME, unix.MOUNT_ATTR__ATIME},
	{"norelatime", unix.MOUNT_ATTR_RELATIME, unix.MOUNT_ATTR__ATIME},
	{"nostrictatime", unix.MOUNT_ATTR_RELATIME, unix.MOUNT_ATTR__ATIME},
}

// attrMask is what clear must leave alone when bits of it are set on purpose.
const attrMask = unix.MOUNT_ATTR__ATIME

// lockable are the attributes that a user namespace may not take from a mount that it
// has got from outside (mount_namespaces(7)).
const lockable = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC

// implied are the attributes that the words take away from a bind mount without naming
// them. The specification points to mount(8), where "bind,nosuid" means a mount that is
// nosuid and nothing else, and no word at all a mount that is as its source is; runc
// does so for words such as dev, too, which only take away.
func (o *options) implied() uint64 {
	if !o.named {
		return 0
	}
	clear := uint64(lockable | unix.MOUNT_ATTR_NOSYMFOLLOW)
	if o.clear&unix.MOUNT_ATTR__ATIME != 0 { // who says how access times are kept, says it for directories
		clear |= unix.MOUNT_ATTR_NODIRATIME
	}
	return clear &^ (o.set | o.clear)
}

// propagationWords; with an r before them they go for all mounts below.
var propagationWords = [...]struct {
	word string
	flag uint64
}{
	{"private", unix.MS_PRIVATE},
	{"shared", unix.MS_SHARED},
	{"slave", unix.MS_SLAVE},
	{"unbindable", unix.MS_UNBINDABLE},
}

// unsupportedWords are known to other runtimes and not carried out here. Taken for
// data of the file system they would give errors that explain nothing.
var unsupportedWords = [...]string{"copy-symlink", "src-nofollow", "dest-nofollow"}

// noWords change nothing: they say what is so without them, or are about the kernel's
// log. Others such as sync belong to a file system: a bind mount cannot have them.
var noWords = [...]string{"", "defaults", "async", "nomand", "nolazytime", "noiversion", "silent", "loud"}

// parseOptions sorts the words; a later word overrides an earlier one.
func parseOptions(words []string) (options, error) {
	var o options
	for _, w := range words {
		if err := o.add(w); err != nil {
			return options{}, err
		}
	}
	return o, nil
}

func (o *options) add(word string) error {
	switch word {
	case "bind", "rbind":
		o.bind, o.recursive = true, word == "rbind"
		return nil
	case "idmap", "ridmap":
		o.mapped, o.mapAll = true, word == "ridmap"
		return nil
	case "remount":
		o.remount = true
		return nil
	case "tmpcopyup":
		o.copyUp = true
		return nil
	}
	if slices.Contains(noWords[:], word) {
		return nil
	}
	if slices.Contains(unsupportedWords[:], word) {
		return errdefs.New(errdefs.ErrUnsupported, "option %q is not supported", word)
	}
	if !o.addAttr(word) && !o.addPropagation(word) {
		o.data = append(o.data, word)
	}
	return nil
}

// addAttr takes a word for an attribute. As with mount(8), the words that only undo
// another one for access times (atime, norelatime, nostrictatime) leave the source's
// way alone, and nodiratime without a way of keeping them is relatime.
func (o *options) addAttr(word string) bool {
	for _, a := range attrWords {
		switch word {
		case a.word:
			o.named = true
			switch word {
			case "atime", "norelatime", "nostrictatime":
				if o.clear&unix.MOUNT_ATTR__ATIME == 0 {
					return true
				}
			case "nodiratime":
				o.clear |= unix.MOUNT_ATTR__ATIME
			}
			change(&o.set, &o.clear, a.set, a.clear)
			return true
		case "r" + a.word:
			change(&o.setAll, &o.clearAll, a.set, a.clear)
			return true
		}
	}
	return false
}

// change applies one word to a pair of masks.
func change(set, clear *uint64, s, c uint64) {
	*set = *set&^c | s
	*clear = *clear&^(s&^attrMask) | c
}

func (o *options) addPropagation(word string) bool {
	for _, p := range propagationWords {
		if word == p.word || word == "r"+p.word {
			o.propagation, o.propagateAll = p.flag, word != p.word
			return true
		}
	}
	return false
}
