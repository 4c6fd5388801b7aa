package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"

	"box/pkg/engine"
)

func lookup(name string) (string, bool) {
	v, ok := map[string]string{"HOSTVAR": "from host", "EMPTY": ""}[name]
	return v, ok
}

// parseRun reads the flags of run as Main would.
func parseRun(t *testing.T, line string) (engine.CreateOptions, []string, error) {
	t.Helper()
	var f containerFlags
	var operands []string
	a := &app{}
	library := a.library()
	words, err := a.line(library, append([]string{"create"}, strings.Fields(line)...))
	if err == nil {
		c := library.Command("create")
		c.Flags = f.flags()
		c.Action = func(c *cli.Context) error {
			operands = c.Args().Slice()
			return nil
		}
		err = library.Run(words)
	}
	if err != nil {
		return engine.CreateOptions{}, nil, err
	}
	o, err := f.finish(operands[1:], lookup)
	return o, operands, err
}

func TestContainerFlags(t *testing.T) {
	five := 5
	tests := []struct {
		line string
		want engine.CreateOptions
	}{
		{"image", engine.CreateOptions{}},
		{"-it --rm image sh -c x", engine.CreateOptions{OpenStdin: true, Tty: true, AutoRemove: true, Cmd: []string{"sh", "-c", "x"}}},
		{"-p 80:80 -p81:81 image", engine.CreateOptions{Publish: []string{"80:80", "81:81"}}},
		{"-e A=b -e HOSTVAR -e EMPTY -e MISSING image", engine.CreateOptions{Env: []string{"A=b", "HOSTVAR=from host", "EMPTY="}}},
		{"--entrypoint= image x", engine.CreateOptions{ResetEntrypoint: true, Cmd: []string{"x"}}},
		{"--entrypoint /bin/sh image", engine.CreateOptions{ResetEntrypoint: true, Entrypoint: []string{"/bin/sh"}}},
		{"-h name --net=none image", engine.CreateOptions{Hostname: "name", Network: "none"}},
		{"-e A=1,2 -eB=\xff --env=C= image", engine.CreateOptions{Env: []string{"A=1,2", "B=\xff", "C="}}},
		{"--name a --name b -l x -l x image", engine.CreateOptions{Name: "b", Labels: map[string]string{"x": ""}}},
		{"-l a=b -l c image", engine.CreateOptions{Labels: map[string]string{"a": "b", "c": ""}}},
		{"--stop-timeout 5 image", engine.CreateOptions{StopTimeout: &five}},
		{"-v /a:/b:ro -w /b -u 1:2 --read-only image", engine.CreateOptions{Volumes: []string{"/a:/b:ro"}, WorkingDir: "/b", User: "1:2", ReadOnly: true}},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			got, operands, err := parseRun(t, tt.line)
			if err != nil {
				t.Fatal(err)
			}
			if got.Cmd = got.Cmd[:len(got.Cmd):len(got.Cmd)]; len(got.Cmd) == 0 {
				got.Cmd = nil
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("options (-want +got):\n%s", d)
			}
			if operands[0] != "image" {
				t.Errorf("operands %q", operands)
			}
		})
	}
}

func TestContainerFlagErrors(t *testing.T) {
	tests := map[string]string{
		"--gpus all image":             "flag --gpus is not supported yet",
		"-m 5m image":                  "flag --memory is not supported yet",
		"-e =x image":                  `variable "=x" has no name`,
		"-l =x image":                  `label "=x" has no key`,
		"--env-file /no/such image":    "read --env-file /no/such: no such file",
		"--stop-timeout forever image": `flag --stop-timeout: "forever" is not a number of seconds`,
	}
	for line, want := range tests {
		if _, _, err := parseRun(t, line); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", line, err, want)
		}
	}
}

// TestNoFlagIsBothBuiltAndRefused finds leftovers in the list of refusals.
func TestNoFlagIsBothBuiltAndRefused(t *testing.T) {
	for _, c := range (&app{}).commands("") {
		seen := map[string]bool{}
		for _, f := range c.Flags {
			for _, name := range f.Names() {
				if seen[name] {
					t.Errorf("box %s: flag %s is there twice", c.Name, name)
				}
				seen[name] = true
			}
		}
	}
}

func TestEnvFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "env")
	text := "\ufeffA=1\n# comment\n\n  B= two words # kept\nHOSTVAR\nA=3\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := environment([]string{file}, []string{"C=4"}, lookup)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"A=1", "B= two words # kept", "HOSTVAR=from host", "A=3", "C=4"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if err := os.WriteFile(file, []byte("ok=1\nnot a name=2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := environment([]string{file}, nil, lookup); err == nil || !strings.Contains(err.Error(), file+":2:") {
		t.Errorf("got %v, want the file and the line", err)
	}
}
