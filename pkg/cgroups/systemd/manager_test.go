package systemd

import (
	"bytes"
	"errors"
	"io"
	"math"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"box/internal/errdefs"
	"box/pkg/cgroups/limits"
)

// fakeBus answers on a socket as a bus with systemd behind it would: answer gets
// each message's bytes and serial number, and returns what is sent.
func fakeBus(t *testing.T, answer func(text string, serial uint32) [][]byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bus")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		const hello = "\x00AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n"
		if _, err := io.ReadFull(c, make([]byte, len(hello))); err != nil {
			return
		}
		_, _ = io.WriteString(c, "DATA\r\nOK 0123\r\n")
		for serial := uint32(1); ; serial++ {
			header := make([]byte, fixedHeader)
			if _, err := io.ReadFull(c, header); err != nil {
				return
			}
			fields, body, err := lengths(header)
			rest := make([]byte, fields+body)
			if _, rerr := io.ReadFull(c, rest); err != nil || rerr != nil {
				return
			}
			for _, out := range answer(string(rest), serial) {
				_, _ = c.Write(out)
			}
		}
	}()
	return path
}

func manager(t *testing.T, answer func(text string, serial uint32) [][]byte) *Manager {
	t.Helper()
	b, err := dial(fakeBus(t, answer))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.close)
	return &Manager{b}
}

func removed(job, result string) []byte {
	return reply(signal, 0, "JobRemoved", "", "uoss", func(e *encoder) {
		e.uint32(1)
		e.string(job)
		e.string("x.scope")
		e.string(result)
	})
}

func done(serial uint32) []byte { return reply(methodReturn, serial, "", "", "", nil) }

// starting answers a start with a job that ends as result, before the reply if
// early.
func starting(result string, early bool) func(string, uint32) [][]byte {
	return func(text string, serial uint32) [][]byte {
		if !strings.Contains(text, "StartTransientUnit") {
			return [][]byte{done(serial)}
		}
		out := [][]byte{
			removed("/job/other", "failed"),
			reply(methodReturn, serial, "", "", "o", func(e *encoder) { e.string("/job/7") }),
			removed("/job/7", result),
		}
		if early {
			out[1], out[2] = out[2], out[1]
		}
		return out
	}
}

func TestStartWaitsForItsJob(t *testing.T) {
	for _, early := range []bool{false, true} {
		if err := manager(t, starting("done", early)).Start(t.Context(), "x.scope", nil); err != nil {
			t.Errorf("early %v: %v", early, err)
		}
	}
	err := manager(t, starting("canceled", false)).Start(t.Context(), "x.scope", nil)
	if err == nil || !strings.Contains(err.Error(), `job ended as "canceled"`) {
		t.Errorf("have %v", err)
	}
}

// TestStartForgetsAFailedUnit: a unit that has failed keeps its name, and the
// second try works.
func TestStartForgetsAFailedUnit(t *testing.T) {
	var calls []string
	ok := starting("done", false)
	m := manager(t, func(text string, serial uint32) [][]byte {
		for _, name := range []string{"StartTransientUnit", "ResetFailedUnit"} {
			if strings.Contains(text, name) {
				calls = append(calls, name)
			}
		}
		if len(calls) == 1 {
			return [][]byte{reply(errorReply, serial, "", "org.freedesktop.systemd1.UnitExists", "s", func(e *encoder) { e.string("exists") })}
		}
		return ok(text, serial)
	})
	if err := m.Start(t.Context(), "x.scope", nil); err != nil {
		t.Fatal(err)
	}
	if want := []string{"StartTransientUnit", "ResetFailedUnit", "StartTransientUnit"}; !slices.Equal(calls, want) {
		t.Errorf("calls %v", calls)
	}
}

func TestStartOfAUsedName(t *testing.T) {
	m := manager(t, func(text string, serial uint32) [][]byte {
		if strings.Contains(text, "StartTransientUnit") {
			return [][]byte{reply(errorReply, serial, "", "org.freedesktop.systemd1.UnitExists", "s", func(e *encoder) { e.string("exists") })}
		}
		return [][]byte{done(serial)}
	})
	if err := m.Start(t.Context(), "x.scope", nil); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("have %v", err)
	}
}

func TestStopOfNothing(t *testing.T) {
	m := manager(t, func(text string, serial uint32) [][]byte {
		if strings.Contains(text, "StopUnit") || strings.Contains(text, "ResetFailedUnit") {
			return [][]byte{reply(errorReply, serial, "", "org.freedesktop.systemd1.NoSuchUnit", "s", func(e *encoder) { e.string("none") })}
		}
		return [][]byte{done(serial)}
	})
	if err := errors.Join(m.Stop(t.Context(), "x.scope"), m.ResetFailed(t.Context(), "x.scope")); err != nil {
		t.Error(err)
	}
}

func TestErrorsHaveTheManagersWords(t *testing.T) {
	m := manager(t, func(text string, serial uint32) [][]byte {
		if strings.Contains(text, "SetUnitProperties") {
			return [][]byte{reply(errorReply, serial, "", "org.freedesktop.DBus.Error.PropertyReadOnly", "s", func(e *encoder) { e.string("Cannot set property") })}
		}
		return [][]byte{done(serial)}
	})
	err := m.Set(t.Context(), "x.scope", []Property{{"Foo", true}})
	if err == nil || err.Error() != "systemd: SetUnitProperties: Cannot set property" {
		t.Errorf("have %v", err)
	}
}

func TestProperty(t *testing.T) {
	m := manager(t, func(text string, serial uint32) [][]byte {
		if !strings.Contains(text, "Version") {
			return [][]byte{done(serial)}
		}
		return [][]byte{reply(methodReturn, serial, "", "", "v", func(e *encoder) { e.variant("252.39-1~deb12u2") })}
	})
	if v, err := m.Version(t.Context()); err != nil || v != 252 {
		t.Errorf("%d, %v", v, err)
	}
}

func TestNobodyListens(t *testing.T) {
	if _, err := dial(filepath.Join(t.TempDir(), "none")); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("have %v", err)
	}
}

func TestSocketPath(t *testing.T) {
	env := func(pairs ...string) func(string) string {
		return func(name string) string {
			for i := 0; i < len(pairs); i += 2 {
				if pairs[i] == name {
					return pairs[i+1]
				}
			}
			return ""
		}
	}
	for _, c := range []struct {
		user bool
		env  func(string) string
		want string
	}{
		{false, env(), "/run/dbus/system_bus_socket"},
		{false, env("DBUS_SYSTEM_BUS_ADDRESS", "tcp:host=x;unix:path=/x%2dy,guid=1"), "/x-y"},
		{true, env("XDG_RUNTIME_DIR", "/run/user/7"), "/run/user/7/bus"},
		{true, env("XDG_RUNTIME_DIR", "/run/user/7", "DBUS_SESSION_BUS_ADDRESS", "unix:abstract=/tmp/x"), "@/tmp/x"},
		{true, env(), ""},
	} {
		if have, err := socketPath(c.user, c.env); have != c.want || (err != nil) != (c.want == "") {
			t.Errorf("have %q, %v; want %q", have, err, c.want)
		}
	}
}

func TestParsePath(t *testing.T) {
	for _, c := range []struct {
		path string
		user bool
		want Names
		text string
	}{
		{"machine.slice:libpod:abc", false, Names{"machine.slice", "libpod-abc.scope"}, ""},
		{"", false, Names{"system.slice", "box-id.scope"}, ""},
		{"", true, Names{"user.slice", "box-id.scope"}, ""},
		{"a-b.slice::abc", false, Names{"a-b.slice", "abc.scope"}, ""},
		{"/x/y", false, Names{}, `linux.cgroupsPath: expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got "/x/y" instead`},
		{"a.slice:b:c/../d", false, Names{}, `linux.cgroupsPath: "a.slice:b:c/../d": "b-c/../d.scope" is not the name of a unit`},
		{"a.slice:b:", false, Names{}, `linux.cgroupsPath: "a.slice:b:": "b-.scope" is not the name of a unit`},
		{"a.slice:b:c.slice", false, Names{}, `linux.cgroupsPath: "a.slice:b:c.slice": a container in a slice of its own, not in a scope, is not supported`},
		{"../x.slice:b:c", false, Names{"../x.slice", "b-c.scope"}, `linux.cgroupsPath: invalid slice name: "../x.slice"`},
	} {
		have, err := ParsePath(c.path, "id", c.user)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if have != c.want || text != c.text {
			t.Errorf("%q: %+v, %v; want %+v, %s", c.path, have, err, c.want, c.text)
		}
	}
}

func TestExpandSlice(t *testing.T) {
	for slice, want := range map[string]string{
		"-.slice": "/", "system.slice": "/system.slice", "a-b-c.slice": "/a.slice/a-b.slice/a-b-c.slice",
		"": "", "a": "", ".slice": "", "a--b.slice": "", "-a.slice": "", "a-.slice": "", "a/b.slice": "",
	} {
		if have, err := ExpandSlice(slice); have != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v; want %q", slice, have, err, want)
		}
	}
}

func TestFromLimits(t *testing.T) {
	list := func(pairs ...string) (all []limits.Limit) {
		for _, p := range pairs {
			file, value, _ := strings.Cut(p, "=")
			all = append(all, limits.Limit{File: file, Value: value})
		}
		return all
	}
	for _, c := range []struct {
		limits  []limits.Limit
		version int
		want    []Property
	}{
		{list("memory.max=5", "memory.swap.max=max", "pids.max=7"), 252, []Property{{"MemoryMax", uint64(5)}, {"MemorySwapMax", uint64(math.MaxUint64)}, {"TasksMax", uint64(7)}}},
		{list("pids.max=0", "memory.min=0"), 252, []Property{{"TasksMax", uint64(1)}, {"MemoryMin", uint64(0)}}},
		{list("memory.max=5", "memory.max=6"), 252, []Property{{"MemoryMax", uint64(6)}}},
		{list("cpu.max=500000 1000000"), 252, []Property{{"CPUQuotaPerSecUSec", uint64(500000)}, {"CPUQuotaPeriodUSec", uint64(1000000)}}},
		{list("cpu.max=33333 100000"), 241, []Property{{"CPUQuotaPerSecUSec", uint64(340000)}}},
		{list("cpu.max=max 100000"), 241, []Property{{"CPUQuotaPerSecUSec", uint64(math.MaxUint64)}}},
		{list("cpuset.cpus=0,9-10", "cpuset.mems=0"), 252, []Property{{"AllowedCPUs", []byte{1, 6}}, {"AllowedMemoryNodes", []byte{1}}}},
		{list("cpuset.cpus=0"), 243, nil},
		{list("cpu.idle=1"), 252, []Property{{"CPUWeight", uint64(0)}}},
		{list("cpu.idle=1"), 251, nil},
		{list("io.weight=8:0 50", "io.max=8:0 rbps=1"), 252, nil},
		{list("memory.limit_in_bytes=-1", "cpu.shares=9"), 252, []Property{{"MemoryLimit", uint64(math.MaxUint64)}, {"CPUShares", uint64(9)}}},
	} {
		have, err := FromLimits(c.limits, c.version)
		if diff := cmp.Diff(c.want, have); err != nil || diff != "" {
			t.Errorf("%v: %v %s", c.limits, err, diff)
		}
	}
	for _, c := range []struct {
		asked, held []limits.Limit
		weightless  bool
	}{
		{list("cpu.idle=1", "cpu.weight=8", "pids.max=7"), list("cpu.idle=1", "pids.max=7"), true},
		{list("cpu.idle=0", "cpu.weight=8"), list("cpu.idle=0", "cpu.weight=8"), false},
		{list("cpu.max=500000 900000"), list("cpu.max=504000 900000"), false},
		{list("cpu.max=5000 100000"), list("cpu.max=5000 100000"), false},
		{list("cpu.max=max 1000000"), list("cpu.max=max 1000000"), false},
		{list("cpu.max=18446744073700 1000000"), list("cpu.max=18446744073700 1000000"), false},
	} {
		held, weightless := AsHeld(c.asked)
		if diff := cmp.Diff(c.held, held); diff != "" || weightless != c.weightless {
			t.Errorf("%v: %v %s", c.asked, weightless, diff)
		}
	}
}

func TestFromAnnotations(t *testing.T) {
	have, err := FromAnnotations(map[string]string{
		"org.systemd.property.TimeoutStopUSec": "uint64 123456789", "org.systemd.property.RuntimeMaxSec": "1.5",
		"org.systemd.property.CollectMode": "'inactive-or-failed'", "org.systemd.property.SendSIGHUP": "true",
		"org.systemd.property.After": `['a.service', "b \"x\".service"]`, "org.systemd.property.KillSignal": "15",
		"other": "x",
	})
	want := []Property{
		{"After", []string{"a.service", `b "x".service`}},
		{"CollectMode", "inactive-or-failed"},
		{"KillSignal", int32(15)},
		{"RuntimeMaxUSec", uint64(1_500_000)},
		{"SendSIGHUP", true},
		{"TimeoutStopUSec", uint64(123456789)},
	}
	if diff := cmp.Diff(want, have); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

// TestAnnotationsAreBounded: neither the name of a property nor the type of its
// value is the container's to choose (CVE-2024-3154).
func TestAnnotationsAreBounded(t *testing.T) {
	for _, name := range []string{"ExecStartPre", "Conflicts", "Requires", "Wants", "Slice", "PIDs", "Delegate", "User", "DeviceAllow", "", "execStart"} {
		if _, err := FromAnnotations(map[string]string{annotation + name: "'x'"}); !errors.Is(err, errdefs.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, value := range map[string]string{
		"CollectMode": "5", "SendSIGHUP": "'true'", "TimeoutStopUSec": "-1", "TimeoutStopSec": "'x'", "KillSignal": "99",
		"After": "'a'", "Before": "['a'", "PartOf": "['a'] x", "Description": `'a\n'`, "MemoryMax": "1.5", "TasksMax": "99999999999999999999",
		"RuntimeMaxSec": "NaN", "OOMPolicy": "'x' 'y'",
	} {
		if have, err := FromAnnotations(map[string]string{annotation + name: value}); !errors.Is(err, errdefs.ErrInvalid) || !strings.Contains(err.Error(), "value parse error") {
			t.Errorf("%s=%s: %v, %v", name, value, have, err)
		}
	}
}

func FuzzAnnotations(f *testing.F) {
	f.Add("TimeoutStopSec", "uint64 5")
	f.Add("After", "['a', 'b']")
	f.Fuzz(func(t *testing.T, name, value string) {
		list, err := FromAnnotations(map[string]string{annotation + name: value})
		if err != nil {
			return
		}
		e := &encoder{}
		if e.properties(list); bytes.Contains([]byte(name), []byte("Exec")) {
			t.Errorf("%s may be set", name)
		}
	})
}

func TestHolder(t *testing.T) {
	h, err := NewHolder()
	if err != nil {
		t.Fatal(err)
	}
	if h.Pid <= 1 {
		t.Errorf("pid %d", h.Pid)
	}
	if err := h.Release(); err != nil {
		t.Error(err)
	}
}
