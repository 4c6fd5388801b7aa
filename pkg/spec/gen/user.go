package gen

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/internal/sys"
)

const (
	// maxID is the largest user or group id that is accepted: larger ones wrap
	// somewhere, as uid 2^32 wraps to root (CVE-2024-40635).
	maxID = 1<<31 - 1
	// maxAccountFile bounds what is read of an image's passwd and group files
	// (CVE-2026-47262: an image may carry gigabytes of them).
	maxAccountFile = 10 << 20
	// maxGroups is the kernel's NGROUPS_MAX.
	maxGroups = 65536
)

// ResolveUser turns the user of an image or of a command line into numbers. It
// takes Docker's forms: "", "name", "uid", "name:group", "uid:gid" and the
// mixtures, where an empty part stands for what passwd says, or for root.
//
// root is the root directory of the image (O_PATH is enough). etc/passwd and
// etc/group are looked up inside it, symbolic links included, so that an
// absolute link means what it means in the container; files that are missing
// count as empty. The image is hostile: what is not a regular file of moderate
// size is refused before it is opened.
//
// A number is never looked up as a name (CVE-2016-3697): "1000" is user 1000
// whatever the image calls root. It is looked up as a number, for its group and
// home. The returned home directory is "/" where passwd knows none.
//
// The primary group is the first of the additional groups: a process whose
// group list lacks it gets past access lists that deny that group
// (CVE-2023-25173).
func ResolveUser(root *os.File, user string) (specs.User, string, error) {
	who, group, err := splitUser(user)
	if err != nil {
		return specs.User{}, "", err
	}
	passwd, err := readAccounts(root, "etc/passwd")
	if err != nil {
		return specs.User{}, "", err
	}
	acct, err := findAccount(passwd, who)
	if err != nil {
		return specs.User{}, "", err
	}
	gids, err := resolveGroups(root, acct, group)
	if err != nil {
		return specs.User{}, "", err
	}
	return specs.User{UID: acct.uid, GID: gids[0], AdditionalGids: gids}, acct.home, nil
}

// account is a line of passwd, or what is assumed in its place.
type account struct {
	name     string // empty if passwd has no such user
	uid, gid uint32
	home     string
}

// splitUser separates "user:group" and refuses forms that could be read in two
// ways.
func splitUser(s string) (user, group string, err error) {
	user, group, _ = strings.Cut(s, ":")
	for _, part := range []string{user, group} {
		// +0 and -1 are numbers to some parsers and names to others.
		if strings.ContainsAny(part, ":\n\x00") || strings.HasPrefix(part, "+") || strings.HasPrefix(part, "-") {
			return "", "", errdefs.New(errdefs.ErrInvalid, "parse user %q: want user[:group], by name or number", s)
		}
	}
	return user, group, nil
}

// readAccounts returns the lines of a file below root, none if it is missing.
func readAccounts(root *os.File, path string) ([]string, error) {
	// O_PATH looks without touching: a FIFO does not block, no driver is called.
	handle, err := sys.OpenInRoot(root, path, unix.O_PATH, 0)
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer handle.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(handle.Fd()), &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: "/" + path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errdefs.New(errdefs.ErrInvalid, "read /%s of the image: not a regular file", path)
	}
	return readLines(handle, path)
}

// missing tells whether err says that there is no such file. A component that
// is not a directory means the same here.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
}

// readLines reads the regular file behind an O_PATH handle.
func readLines(handle *os.File, path string) ([]string, error) {
	f, err := os.Open("/proc/self/fd/" + strconv.Itoa(int(handle.Fd())))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxAccountFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxAccountFile {
		return nil, errdefs.New(errdefs.ErrInvalid, "read /%s of the image: larger than %d MiB", path, maxAccountFile>>20)
	}
	return strings.Split(string(data), "\n"), nil
}

// findAccount looks a user up: by number if it is one, else by name. The empty
// user is root.
func findAccount(passwd []string, who string) (account, error) {
	if who == "" {
		who = "0"
	}
	number := isNumber(who)
	acct := account{home: "/"}
	if number {
		id, err := parseID("user", who)
		if err != nil {
			return account{}, err
		}
		acct.uid = id
	}
	for _, line := range passwd {
		f := strings.Split(line, ":")
		if len(f) < 6 || !isNumber(f[2]) {
			continue // as getpwent(3): comments, NIS entries, short lines
		}
		if number && sameNumber(f[2], who) || !number && f[0] == who {
			return parseAccount(f)
		}
	}
	if !number {
		return account{}, errdefs.New(errdefs.ErrNotFound, "find user %q: no such name in the image's /etc/passwd", who)
	}
	return acct, nil
}

// parseAccount reads the fields of the passwd line that was chosen. Here an
// absurd number is an error and not a reason to look further: the next line of
// the same name would be another user.
func parseAccount(f []string) (account, error) {
	uid, err := parseID("user", f[2])
	if err != nil {
		return account{}, err
	}
	gid, err := parseID("group", f[3])
	if err != nil {
		return account{}, err
	}
	home := f[5]
	if !strings.HasPrefix(home, "/") || strings.Contains(home, "\x00") {
		home = "/"
	}
	return account{name: f[0], uid: uid, gid: gid, home: home}, nil
}

// resolveGroups returns the primary group followed by the supplementary ones. A
// group that the caller names is the only one, as in Docker.
func resolveGroups(root *os.File, acct account, group string) ([]uint32, error) {
	if isNumber(group) {
		gid, err := parseID("group", group)
		return []uint32{gid}, err
	}
	if group == "" && acct.name == "" {
		return []uint32{acct.gid}, nil // no name, hence no memberships
	}
	lines, err := readAccounts(root, "etc/group")
	if err != nil {
		return nil, err
	}
	if group != "" {
		return findGroup(lines, group)
	}
	return memberships(lines, acct)
}

// findGroup looks a group up by name.
func findGroup(lines []string, name string) ([]uint32, error) {
	for _, line := range lines {
		f := strings.Split(line, ":")
		if len(f) >= 3 && f[0] == name && isNumber(f[2]) {
			gid, err := parseID("group", f[2])
			return []uint32{gid}, err
		}
	}
	return nil, errdefs.New(errdefs.ErrNotFound, "find group %q: no such name in the image's /etc/group", name)
}

// memberships returns the groups of an account, the primary one first.
func memberships(lines []string, acct account) ([]uint32, error) {
	gids := []uint32{acct.gid}
	seen := map[uint32]bool{acct.gid: true}
	for _, line := range lines {
		f := strings.SplitN(line, ":", 4)
		if len(f) < 4 || !isNumber(f[2]) || !slices.Contains(strings.Split(f[3], ","), acct.name) {
			continue
		}
		gid, err := parseID("group", f[2])
		if err != nil {
			return nil, err
		}
		if !seen[gid] {
			seen[gid] = true
			gids = append(gids, gid)
		}
	}
	if len(gids) > maxGroups {
		return nil, errdefs.New(errdefs.ErrInvalid, "find groups of user %q: more than %d", acct.name, maxGroups)
	}
	return gids, nil
}

// isNumber tells whether s is a decimal number, of whatever size.
func isNumber(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// sameNumber compares decimal numbers without regard to leading zeros.
func sameNumber(a, b string) bool {
	return strings.TrimLeft(a, "0") == strings.TrimLeft(b, "0")
}

// parseID reads an id; kind is for the message.
func parseID(kind, s string) (uint32, error) {
	id, err := strconv.ParseUint(s, 10, 32)
	if err != nil || id > maxID {
		return 0, errdefs.New(errdefs.ErrInvalid, "parse %s id %q: not a number from 0 to %d", kind, s, maxID)
	}
	return uint32(id), nil
}
