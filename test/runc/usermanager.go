package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// userManagerUnit is the user's systemd, which manages the groups of his containers.
var userManagerUnit = fmt.Sprintf("user@%d.service", rootlessID)

// needsUserManager tells whether tests run without root under a systemd of their user.
func (o options) needsUserManager() bool {
	return o.features != "" && slices.Contains(o.views, viewSystemd)
}

// checkFeatures refuses what cannot be asked of a run without root.
func (o options) checkFeatures() error {
	switch {
	case o.features == "":
		return nil
	case !slices.Contains(featureNames, o.features):
		return fmt.Errorf("rootless %s: unknown; known: %s", o.features, strings.Join(featureNames, ", "))
	case o.needsUserManager() && strings.Contains(o.features, "cgroup"):
		return errors.New("rootless cgroup: systemd gives groups to the user in the view systemd; ask for none or idmap")
	}
	return nil
}

// startUserManager makes the user known to the whole machine, which is thrown away, and
// starts his systemd with all controllers, as a login would. It is there before the
// jobs' namespaces are, so that they see its socket.
func startUserManager(ctx context.Context) error {
	for path, line := range userLines("/") {
		if err := appendLine(path, line); err != nil {
			return fmt.Errorf("make user: %w", err)
		}
	}
	drop := filepath.Join("/run/systemd/system", "user@.service.d")
	if err := os.MkdirAll(drop, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(drop, "delegate.conf"), []byte("[Service]\nDelegate=yes\n"), 0o644); err != nil {
		return err
	}
	if err := command(ctx, "/", "systemctl", "daemon-reload"); err != nil {
		return err
	}
	return command(ctx, "/", "systemctl", "start", userManagerUnit)
}

// userLines are the entries of the user. He has no password, nor an entry in /etc/shadow:
// an x in the place of the password would have PAM look for one, and refuse him.
func userLines(home string) map[string]string {
	return map[string]string{
		"/etc/passwd": fmt.Sprintf("%s:*:%d:%d::%s:/bin/bash\n", rootlessName, rootlessID, rootlessID, home),
		"/etc/group":  fmt.Sprintf("%s:x:%d:\n", rootlessName, rootlessID),
	}
}

// appendLine adds a line to a file, unless the file has it.
func appendLine(path, line string) error {
	old, err := os.ReadFile(path)
	if err != nil || strings.Contains("\n"+string(old), "\n"+line) {
		return err
	}
	if len(old) > 0 && old[len(old)-1] != '\n' {
		line = "\n" + line
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line)
	return errors.Join(err, f.Close())
}

// userManagerEnv is where programs find the user's systemd.
func userManagerEnv() []string {
	dir := fmt.Sprintf("/run/user/%d", rootlessID)
	return []string{"XDG_RUNTIME_DIR=" + dir, "DBUS_SESSION_BUS_ADDRESS=unix:path=" + dir + "/bus"}
}
