package cgroups

import (
	"path/filepath"
	"strconv"

	"box/internal/errdefs"
	"box/pkg/cgroups/kernfs"
)

// setDevicesLegacy writes the rules to devices.allow and devices.deny of cgroup v1
// (cgroup-v1/devices.rst), for hosts without a unified hierarchy. That controller
// knows exceptions from one default only, not an order of rules; the rules are
// brought into that form first.
func (c *Cgroup) setDevicesLegacy(rules []deviceRule) error {
	dir := c.legacy.Dir("devices")
	if dir == "" {
		return errdefs.New(errdefs.ErrUnsupported, "linux.resources.devices: this host has neither cgroup v2 nor the controller devices")
	}
	for _, l := range legacyLines(rules) {
		if err := kernfs.Write(filepath.Join(dir, l.file), l.rule); err != nil {
			return err
		}
	}
	return nil
}

// legacyLine is one rule and the file that it is written to.
type legacyLine struct{ file, rule string }

// legacyLines keeps what comes behind the last rule about everything, which sets
// the default: an exception to what is the default anyway means nothing unless
// another came before it.
func legacyLines(rules []deviceRule) []legacyLine {
	lines := []legacyLine{{"devices.deny", "a"}}
	allowed := false
	for _, r := range rules {
		file := "devices.deny"
		if r.allow {
			file = "devices.allow"
		}
		switch {
		case r.unlimited():
			lines, allowed = []legacyLine{{file, "a"}}, r.allow
		case r.allow == allowed && len(lines) == 1:
		case r.kind == anyType: // which v1 takes for everything
			for _, kind := range []int32{blockType, charType} {
				r.kind = kind
				lines = append(lines, legacyLine{file, r.line()})
			}
		default:
			lines = append(lines, legacyLine{file, r.line()})
		}
	}
	return lines
}

// line is the rule in the form of cgroup v1: "c 1:3 rwm".
func (r deviceRule) line() string {
	number := func(n int64) string {
		if n == anyNumber {
			return "*"
		}
		return strconv.FormatInt(n, 10)
	}
	kind := string("abc"[r.kind])
	return kind + " " + number(r.major) + ":" + number(r.minor) + " " + r.letters()
}

// letters is what a rule is about, as v1 and systemd have it: some of "rwm".
func (r deviceRule) letters() string {
	letters := ""
	for _, a := range []struct {
		bit    int32
		letter string
	}{{accessRead, "r"}, {accessWrite, "w"}, {accessMknod, "m"}} {
		if r.access&a.bit != 0 {
			letters += a.letter
		}
	}
	return letters
}
