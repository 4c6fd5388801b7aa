package engine

import (
	"errors"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"box/internal/errdefs"
	"box/pkg/image"
	"box/pkg/record"
)

func testImage() *image.Image {
	img := &image.Image{ID: digest.FromString("image"), Names: []string{"docker.io/library/web:latest"}}
	c := &img.Config.Config
	c.Entrypoint, c.Cmd = []string{"/entry"}, []string{"default"}
	c.Env = []string{"PATH=/bin", "A=image", "B=image"}
	c.User, c.WorkingDir, c.StopSignal = "ann", "/srv", "SIGQUIT"
	c.ExposedPorts = map[string]struct{}{"80/tcp": {}, "53/udp": {}}
	c.Labels = map[string]string{"a": "image", "b": "image"}
	return img
}

func TestImageAndOptionsMerge(t *testing.T) {
	id := record.NewID()
	r, err := newRecord(id, CreateOptions{
		Image: testImage(), Env: []string{"A=user", "C="}, Labels: map[string]string{"b": "user"},
		Expose: []string{"80", "8080"}, Publish: []string{"127.0.0.1:8080:80"}, PublishAll: true, Tty: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	want := record.Config{
		Hostname: id[:12], User: "ann", Entrypoint: []string{"/entry"}, Cmd: []string{"default"}, WorkingDir: "/srv",
		Env:          []string{"PATH=/bin", "HOSTNAME=" + id[:12], "TERM=xterm", "A=user", "B=image", "C="},
		Labels:       map[string]string{"a": "image", "b": "user"},
		ExposedPorts: []string{"53/udp", "80/tcp", "8080/tcp"},
		StopSignal:   "SIGQUIT", StopTimeout: 10, Tty: true,
	}
	if d := cmp.Diff(want, r.Config); d != "" {
		t.Error(d)
	}
	ports := []record.Port{
		{HostIP: "127.0.0.1", HostPort: 8080, ContainerPort: 80, Proto: "tcp"},
		{ContainerPort: 53, Proto: "udp"},
		{ContainerPort: 8080, Proto: "tcp"},
	}
	if d := cmp.Diff(ports, r.Host.Ports); d != "" {
		t.Error(d)
	}
	if r.Image.Name != "docker.io/library/web:latest" || r.Host.NetworkMode != NetworkBridge {
		t.Errorf("record: %+v", r)
	}
}

func TestCommandRules(t *testing.T) {
	for _, c := range []struct {
		name string
		o    CreateOptions
		want []string
	}{
		{"image's own", CreateOptions{}, []string{"/entry", "default"}},
		{"other command", CreateOptions{Cmd: []string{"x", "y"}}, []string{"/entry", "x", "y"}},
		{"other entrypoint drops the command", CreateOptions{Entrypoint: []string{"/e"}}, []string{"/e"}},
		{"both", CreateOptions{Entrypoint: []string{"/e"}, Cmd: []string{"x"}}, []string{"/e", "x"}},
		{"no entrypoint", CreateOptions{ResetEntrypoint: true, Cmd: []string{"x"}}, []string{"x"}},
	} {
		c.o.Image = testImage()
		r, err := newRecord(record.NewID(), c.o)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if d := cmp.Diff(c.want, r.Config.Args()); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
}

func TestOptionsThatAreRefused(t *testing.T) {
	bad := func(change func(*CreateOptions)) CreateOptions {
		o := CreateOptions{Image: testImage()}
		change(&o)
		return o
	}
	for name, c := range map[string]struct {
		o     CreateOptions
		class error
	}{
		"no image":             {CreateOptions{}, errdefs.ErrInvalid},
		"no command":           {bad(func(o *CreateOptions) { o.ResetEntrypoint = true }), errdefs.ErrInvalid},
		"relative directory":   {bad(func(o *CreateOptions) { o.WorkingDir = "srv" }), errdefs.ErrInvalid},
		"stop signal":          {bad(func(o *CreateOptions) { o.StopSignal = "SIGNOPE" }), errdefs.ErrInvalid},
		"environment":          {bad(func(o *CreateOptions) { o.Env = []string{"HOME"} }), errdefs.ErrInvalid},
		"image's environment":  {bad(func(o *CreateOptions) { o.Image.Config.Config.Env = []string{"*"} }), errdefs.ErrInvalid},
		"network":              {bad(func(o *CreateOptions) { o.Network = "mynet" }), errdefs.ErrUnsupported},
		"port without network": {bad(func(o *CreateOptions) { o.Network, o.Publish = NetworkNone, []string{"80:80"} }), errdefs.ErrInvalid},
		"port":                 {bad(func(o *CreateOptions) { o.Publish = []string{"80:http"} }), errdefs.ErrInvalid},
		"extra host's line":    {bad(func(o *CreateOptions) { o.ExtraHosts = []string{"a\n9.9.9.9 evil:1.2.3.4"} }), errdefs.ErrInvalid},
		"extra host":           {bad(func(o *CreateOptions) { o.ExtraHosts = []string{"db:nowhere"} }), errdefs.ErrInvalid},
	} {
		if _, err := newRecord(record.NewID(), c.o); !errors.Is(err, c.class) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseSignal(t *testing.T) {
	for s, want := range map[string]syscall.Signal{
		"9": 9, "KILL": 9, "SIGKILL": 9, "sigterm": 15, "usr1": 10, "RTMIN": 34, "SIGRTMIN+3": 37, "rtmax-1": 63, "64": 64,
	} {
		if got, err := ParseSignal(s); err != nil || got != want {
			t.Errorf("%s: %d %v", s, got, err)
		}
	}
	for _, s := range []string{"", "0", "-1", "65", "SIG", "NOPE", "RTMIN+31", "RTMAX-x"} {
		if got, err := ParseSignal(s); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%q: %d %v", s, got, err)
		}
	}
}

func TestDetachKeys(t *testing.T) {
	keys, err := ParseDetachKeys("ctrl-p,ctrl-q")
	if err != nil || string(keys) != "\x10\x11" {
		t.Fatalf("%q %v", keys, err)
	}
	for _, c := range []struct {
		name   string
		chunks []string
		out    string
		found  bool
	}{
		{"plain", []string{"abc"}, "abc", false},
		{"at once", []string{"a\x10\x11b"}, "a", true},
		{"in two", []string{"a\x10", "\x11"}, "a", true},
		{"first only", []string{"\x10", "x"}, "\x10x", false},
		{"first twice", []string{"\x10\x10", "\x11"}, "\x10", true},
		{"held back", []string{"a\x10"}, "a", false},
	} {
		m := keyMatcher{keys: keys}
		var out strings.Builder
		found := false
		for _, chunk := range c.chunks {
			var b []byte
			b, found = m.feed([]byte(chunk))
			out.Write(b)
		}
		if out.String() != c.out || found != c.found {
			t.Errorf("%s: %q %v", c.name, out.String(), found)
		}
	}
	for s, want := range map[string]string{"a": "a", "ctrl-a,x": "\x01x", "ctrl-@": "\x00", "ctrl-[": "\x1b", "": ""} {
		if got, err := ParseDetachKeys(s); err != nil || string(got) != want {
			t.Errorf("%q: %q %v", s, got, err)
		}
	}
	for _, s := range []string{"ctrl-", "ctrl-ab", "abc", "a,,b"} {
		if _, err := ParseDetachKeys(s); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestRandomNamesAreNames(t *testing.T) {
	for i := range 1000 {
		if err := record.CheckName(randomName(i % 5)); err != nil {
			t.Error(err)
		}
	}
	seen := map[string]bool{}
	for _, list := range [][]string{adjectives[:], surnames[:]} {
		clear(seen)
		for _, w := range list {
			if seen[w] {
				t.Errorf("%s is listed twice", w)
			}
			seen[w] = true
		}
	}
}

// An image's configuration has room for a million variables: to look each of them
// up among all the others took half an hour, in which no signal helped.
func TestManyVariables(t *testing.T) {
	entries := make([]string, 300_000)
	for i := range entries {
		entries[i] = "V" + strconv.Itoa(i) + "=x"
	}
	done := make(chan int)
	go func() {
		env, err := mergeEnv([]string{"PATH=/bin", "V7=old"}, entries)
		if err != nil || env[1] != "V7=x" {
			t.Errorf("merged: %v, %q", err, env[:2])
		}
		done <- len(env)
	}()
	select {
	case n := <-done:
		if n != len(entries)+1 {
			t.Errorf("%d variables, want %d", n, len(entries)+1)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it takes longer than any image is worth")
	}
}
