package guest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"box/internal/testkit/vm"
)

// The user of vm.User, and his home on the disk.
const (
	userID   = 1000
	userName = "tester"
	home     = "home/tester"
	// runtimeDir is what pam_systemd would make for him at login.
	runtimeDir = "/run/user/1000"
)

// makeUser makes the user known and gives him his directories, with 65,536 subordinate ids as Debian's adduser gives them.
// It replaces whoever has the uid on the host.
func makeUser() error {
	lines := []struct{ file, line string }{
		{"/etc/passwd", fmt.Sprintf("%s:*:%d:%d::/%s:/bin/sh", userName, userID, userID, home)},
		{"/etc/group", fmt.Sprintf("%s:x:%d:", userName, userID)},
		{"/etc/subuid", userName + ":100000:65536"},
		{"/etc/subgid", userName + ":100000:65536"},
	}
	for _, l := range lines {
		old, err := os.ReadFile(l.file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.WriteFile(l.file, addEntry(old, l.line), 0o644); err != nil {
			return err
		}
	}
	// /run/user itself must stay open to all: MkdirAll would give it the narrow mode.
	if err := os.MkdirAll("/run/user", 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(runtimeDir, 0o700); err != nil {
		return err
	}
	if err := os.Chown(runtimeDir, userID, userID); err != nil {
		return err
	}
	return os.Chown("/"+home, userID, userID)
}

// addEntry adds a line to a file like passwd and drops those with the same name or
// the same number in the third field.
func addEntry(old []byte, line string) []byte {
	var b bytes.Buffer
	id := func(l string) string {
		if fields := strings.Split(l, ":"); len(fields) > 3 {
			return fields[2]
		}
		return ""
	}
	for l := range strings.Lines(string(old)) {
		l = strings.TrimSuffix(l, "\n")
		same := strings.HasPrefix(l, userName+":") || id(l) != "" && id(l) == id(line)
		if !same {
			fmt.Fprintln(&b, l)
		}
	}
	fmt.Fprintln(&b, line)
	return b.Bytes()
}

// environment is the command's: a clean one, and what the job adds.
func environment(job *vm.Job) []string {
	env := []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		vm.InsideVariable + "=1",
		"TMPDIR=/var/tmp", // on the disk, where an overlay can have its upper layer
	}
	if job.Mode.Unprivileged() {
		env = append(env, "HOME=/"+home, "USER="+userName, "LOGNAME="+userName, "XDG_RUNTIME_DIR="+runtimeDir)
		if job.Mode.HasSystemd() {
			env = append(env, "DBUS_SESSION_BUS_ADDRESS=unix:path="+runtimeDir+"/bus")
		}
	} else {
		env = append(env, "HOME=/root", "USER=root", "LOGNAME=root")
	}
	return append(env, job.Env...)
}
