package runtime

import (
	"encoding/binary"
	"os"
	"slices"
	"strings"
	"testing"
)

// listener puts a criu into the bundle that writes down what it is asked for, and ends.
func (b *bench) listener() (program, request string) {
	b.t.Helper()
	program, request = b.bundle+"/criu", b.bundle+"/request"
	script := "#!/bin/sh\nexec dd bs=65536 count=1 of=" + request + " <&3 2>/dev/null\n"
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		b.t.Fatal(err)
	}
	return program, request
}

// messageFields takes a protocol buffer apart: the values of each field, numbers as
// they are and the rest as text. It knows the two types that criu's options have.
func messageFields(t *testing.T, data []byte) map[uint64][]any {
	t.Helper()
	all := map[uint64][]any{}
	for len(data) > 0 {
		key, n := binary.Uvarint(data)
		value, m := binary.Uvarint(data[max(n, 0):])
		if n <= 0 || m <= 0 || key&7 != 0 && key&7 != 2 {
			t.Fatalf("no protocol buffer: %x", data)
		}
		data = data[n+m:]
		if key&7 == 0 {
			all[key>>3] = append(all[key>>3], int(value))
			continue
		}
		if value > uint64(len(data)) {
			t.Fatalf("field %d is cut short", key>>3)
		}
		all[key>>3] = append(all[key>>3], string(data[:value]))
		data = data[value:]
	}
	return all
}

// asked calls box-runtime with the listener for criu, and returns the options that it was
// asked with. The call fails, since that criu does nothing.
func (b *bench) asked(args ...string) map[uint64][]any {
	b.t.Helper()
	program, request := b.listener()
	defer os.Remove(request)
	r := b.try(append([]string{"--criu", program}, args...)...)
	if r.code != 1 || !strings.Contains(r.err, "criu ended without an answer") {
		b.t.Fatalf("%v: %+v", args, r)
	}
	data, err := os.ReadFile(request)
	if err != nil {
		b.t.Fatal(err)
	}
	options := messageFields(b.t, data)[2]
	if len(options) != 1 {
		b.t.Fatalf("%v: request %x", args, data)
	}
	return messageFields(b.t, []byte(options[0].(string)))
}

// The numbers of options in criu's rpc.proto, as far as flags set them.
const (
	optionPageServer = 11
	optionParent     = 14
	optionTrackMem   = 15
	optionMode       = 34
	optionEmpty      = 38
	optionConfig     = 51
	optionLSMProfile = 53
	optionLSMContext = 63
)

// flagOptions are the switches and what criu is to be told for them.
func flagOptions(verb string) map[string]uint64 {
	flags := map[string]uint64{"--tcp-established": 5, "--ext-unix-sk": 4, "--shell-job": 7, "--file-locks": 8, "--auto-dedup": 16}
	if verb == "checkpoint" {
		flags["--leave-running"], flags["--link-remap"], flags["--tcp-skip-in-flight"] = 3, 18, 46
	} else {
		flags["--lazy-pages"] = 48 // which a checkpoint asks criu for first
	}
	return flags
}

// checkFlags calls a verb with each of the flags that say something to criu.
func (b *bench) checkFlags(verb string, common ...string) {
	b.t.Helper()
	ask := func(flags ...string) map[uint64][]any {
		return b.asked(append(append([]string{verb}, flags...), common...)...)
	}
	plain := ask()
	if have, want := plain[optionMode], []any{6}; !slices.Equal(have, want) { // criu's default
		b.t.Errorf("%s: mode %v, want %v", verb, have, want)
	}
	if have, want := plain[optionConfig], []any{"/etc/criu/runc.conf"}; !slices.Equal(have, want) {
		b.t.Errorf("%s: configuration %v, want %v", verb, have, want)
	}
	for flag, option := range flagOptions(verb) {
		if have := ask(flag); len(plain[option]) != 0 || !slices.Equal(have[option], []any{1}) {
			b.t.Errorf("%s %s: option %d is %v, and %v without", verb, flag, option, have[option], plain[option])
		}
	}
	for mode, number := range map[string]int{"ignore": 0, "soft": 3, "full": 4, "strict": 5} {
		if have := ask("--manage-cgroups-mode", mode)[optionMode]; !slices.Equal(have, []any{number}) {
			b.t.Errorf("%s --manage-cgroups-mode %s: %v", verb, mode, have)
		}
	}
	if have := ask("--empty-ns", "network")[optionEmpty]; !slices.Equal(have, []any{0x40000000}) { // CLONE_NEWNET
		b.t.Errorf("%s --empty-ns network: %v", verb, have)
	}
}

// Every flag of checkpoint reaches criu, and a checkpoint that fails leaves the container
// as it was.
func TestCheckpointFlags(t *testing.T) {
	b := newBench(t, "sleep", "1000")
	b.background()
	defer b.do("delete", "--force", b.id)
	images := b.bundle + "/images"
	if err := os.MkdirAll(b.bundle+"/parent", 0o700); err != nil {
		t.Fatal(err)
	}
	b.checkFlags("checkpoint", "--image-path", images, b.id)
	with := b.asked("checkpoint", "--image-path", images, "--parent-path", "../parent", "--page-server", "[::1]:99", b.id)
	for option, want := range map[uint64]any{optionParent: "../parent", optionTrackMem: 1, optionPageServer: "\x0a\x03::1\x10\x63"} {
		if !slices.Equal(with[option], []any{want}) {
			t.Errorf("option %d: %q, want %q", option, with[option], want)
		}
	}
	b.expectStatus(Running)
}

// Every flag of restore reaches criu, and a restore that fails leaves nothing. A file
// that the container's annotation names takes the place of the usual one.
func TestRestoreFlags(t *testing.T) {
	b := newBench(t, "sleep", "1000")
	b.save()
	images := b.bundle + "/images"
	if err := os.MkdirAll(images, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(images+"/"+descriptorsFile, []byte(`["/dev/null","pipe:[7]"]`), 0o600); err != nil {
		t.Fatal(err)
	}
	b.checkFlags("restore", "--detach", "--image-path", images, b.id)
	with := b.asked("restore", "-d", "--image-path", images, "--lsm-profile", "apparmor:x", "--lsm-mount-context", "a:b:c", b.id)
	for option, want := range map[uint64]any{optionLSMProfile: "apparmor:x", optionLSMContext: "a:b:c", 27: "\x0a\x08pipe:[7]\x10\x01"} {
		if !slices.Equal(with[option], []any{want}) {
			t.Errorf("option %d: %q, want %q", option, with[option], want)
		}
	}
	for value, want := range map[string][]any{"/etc/x.conf": {"/etc/x.conf"}, "": nil} {
		b.spec.Annotations = map[string]string{"org.criu.config": value}
		b.save()
		if have := b.asked("restore", "-d", "--image-path", images, b.id)[optionConfig]; !slices.Equal(have, want) {
			t.Errorf("annotation %q: configuration %v", value, have)
		}
	}
	if st := b.state(); st != nil {
		t.Errorf("left: %+v", st)
	}
	b.nothingLeft()
}
