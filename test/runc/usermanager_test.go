package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestSystemdGivesGroupsItself(t *testing.T) {
	cases := []struct {
		view, features string
		manager        bool
		refused        string
	}{
		{"v2", "", false, ""},
		{"v2", "idmap+cgroup", false, ""},
		{"v2", "root", false, "rootless root: unknown"},
		{viewSystemd, "", false, ""},
		{viewSystemd, "none", true, ""},
		{viewSystemd, "idmap", true, ""},
		{viewSystemd, "idmap+cgroup", true, "rootless cgroup: systemd gives groups"},
	}
	for _, c := range cases {
		o := options{views: []string{"host", c.view}, features: c.features}
		if got := o.needsUserManager(); got != c.manager {
			t.Errorf("%s %q: needs a manager: %v", c.view, c.features, got)
		}
		err := o.checkFeatures()
		if (err == nil) != (c.refused == "") || err != nil && !strings.Contains(err.Error(), c.refused) {
			t.Errorf("%s %q: %v, want %q", c.view, c.features, err, c.refused)
		}
	}
}

func TestAppendLineKeepsLinesApart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "passwd")
	if err := os.WriteFile(file, []byte("rooter:x:0\nlast:x:1"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"root:x:0\n", "root:x:0\n"} {
		if err := appendLine(file, line); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if want := "rooter:x:0\nlast:x:1\nroot:x:0\n"; err != nil || string(got) != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	if err := appendLine(file+".no", "x\n"); err == nil {
		t.Error("a file that is not there got a line")
	}
}

func TestUserFindsHisSystemd(t *testing.T) {
	with := job{Work: "/w", View: viewSystemd, Features: "idmap"}.rootlessEnv()
	for _, want := range []string{"ROOTLESS_FEATURES=idmap+", "XDG_RUNTIME_DIR=/run/user/4242", "DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/4242/bus"} {
		if !slices.Contains(with, want) {
			t.Errorf("no %s in %q", want, with)
		}
	}
	without := job{Work: "/w", View: "v2", Features: "idmap"}.rootlessEnv()
	if strings.Contains(strings.Join(without, " "), "/run/user") {
		t.Errorf("a systemd without one: %q", without)
	}
}
