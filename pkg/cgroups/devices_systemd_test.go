package cgroups

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"box/pkg/cgroups/systemd"
)

func TestUnitDevices(t *testing.T) {
	const none = "none"
	for name, c := range map[string]struct {
		rules []deviceRule
		want  string
	}{
		"no rules":              {nil, ""},
		"one":                   {[]deviceRule{nothing, null}, "/dev/char/1:3 rwm"},
		"before everything":     {[]deviceRule{null, nothing, {true, blockType, 8, anyNumber, accessRead}}, "block-8 r"},
		"twice":                 {[]deviceRule{{true, charType, 1, 3, accessRead}, {true, charType, 1, 3, accessWrite}}, "/dev/char/1:3 rw"},
		"both types":            {[]deviceRule{{true, anyType, anyNumber, anyNumber, accessMknod}}, "block-* m, char-* m"},
		"both with numbers":     {[]deviceRule{{true, anyType, 7, 1, accessRead}}, "/dev/block/7:1 r, /dev/char/7:1 r"},
		"denied anyway":         {[]deviceRule{null, {false, charType, 1, 4, accessAll}, {false, blockType, 1, 3, accessAll}}, "/dev/char/1:3 rwm"},
		"everything":            {[]deviceRule{nothing, everything, null}, none},
		"all but one":           {[]deviceRule{everything, {false, blockType, 8, anyNumber, accessWrite}}, none},
		"taken back":            {[]deviceRule{null, {false, anyType, 1, anyNumber, accessRead}}, none},
		"one minor of any":      {[]deviceRule{{true, charType, anyNumber, 5, accessRead}}, none},
		"all character devices": {[]deviceRule{{true, charType, anyNumber, anyNumber, accessAll}}, "char-* rwm"},
	} {
		have := none
		if list := unitDevices(c.rules, systemd.SinceDeviceNumbers); list != nil {
			var words []string
			for _, d := range list[len(list)-1].Value.([]systemd.Device) {
				words = append(words, d.Path+" "+d.Access)
			}
			have = strings.Join(words, ", ")
			if empty, ok := list[0].Value.([]systemd.Device); !ok || len(empty) != 0 || list[1] != (systemd.Property{Name: "DevicePolicy", Value: "strict"}) {
				t.Errorf("%s: %v", name, list)
			}
		}
		if have != c.want {
			t.Errorf("%s: %s, want %s", name, have, c.want)
		}
		if list := unitDevices(c.rules, systemd.SinceDeviceNumbers-1); list != nil {
			t.Errorf("%s: an old systemd is told %v", name, list)
		}
	}
}

// FuzzAllowList: a list, if there is one, allows what the rules allow, for every access
// to devices that they name and to others.
func FuzzAllowList(f *testing.F) {
	f.Add([]byte{1, 2, 1, 3, 7, 0, 2, 1, 3, 2})
	f.Add([]byte{1, 0, 0, 0, 7, 0, 1, 8, 0, 4})
	f.Fuzz(func(t *testing.T, data []byte) {
		number := func(b byte) int64 { return int64(b%4) - 1 }
		var rules []deviceRule
		for chunk := range slices.Chunk(data, 5) {
			if len(chunk) == 5 && len(rules) < 8 {
				rules = append(rules, deviceRule{chunk[0]%2 == 1, int32(chunk[1] % 3), number(chunk[2]), number(chunk[3]), int32(chunk[4]%7) + 1})
			}
		}
		list, ok := allowList(rules)
		if !ok {
			return
		}
		for n := range 2 * 4 * 4 * 3 {
			one := deviceRule{true, blockType + int32(n%2), int64(n / 2 % 4), int64(n / 8 % 4), 1 << (n / 32)}
			if have, want := slices.ContainsFunc(list, one.touches), allowed(rules, one); have != want {
				t.Errorf("%v: %v allows %v: %v, want %v", rules, list, one, have, want)
			}
		}
	})
}

// allowed asks rules in their order about one kind of access to one device.
func allowed(rules []deviceRule, one deviceRule) bool {
	is := false
	for _, r := range rules {
		if r.touches(one) {
			is = r.allow
		}
	}
	return is
}

// TestScopeDevices: systemd knows the rules, and they hold when it writes them again.
func TestScopeDevices(t *testing.T) {
	c := newScope(t, nil)
	if c.unit.user {
		t.Skip("a user's manager carries out no device rules")
	}
	if err := c.SetDevices(scopeDevices); err != nil {
		t.Fatal(err)
	}
	launched(t, c, "wait")
	checkShown(t, c, map[string]string{"DevicePolicy": "strict", "NeedDaemonReload": "no"})
	shown, err := exec.Command("systemctl", "show", "-p", "DeviceAllow", c.unit.name).Output()
	for _, want := range []string{"/dev/char/10:200 rw\n", "/dev/char/1:3 rwm\n", "char-136 rwm\n", "block-* m\n"} {
		if err != nil || !strings.Contains(string(shown), want) {
			t.Errorf("%v: %q is not in %s", err, want, shown)
		}
	}
	if out, err := exec.Command("systemctl", "daemon-reload").CombinedOutput(); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	for device, want := range map[string]bool{"/dev/null": true, "/dev/kmsg": false} {
		script := fmt.Sprintf("echo 0 > %s/cgroup.procs && : <%s", c.Dir(), device)
		if err := exec.Command("sh", "-c", script).Run(); (err == nil) != want {
			t.Errorf("open %s: %v", device, err)
		}
	}
}
