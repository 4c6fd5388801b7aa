package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// The test binary is the program itself when this variable is set: no second build,
// and the whole way through main is tested.
const asProgram = "BOX_RUNTIME_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(run(os.Args))
	}
	os.Exit(m.Run())
}

// call runs the program in dir.
func call(t *testing.T, dir string, args ...string) (out, errs string, code int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), asProgram+"=1")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(stdout), stderr.String(), cmd.ProcessState.ExitCode()
}

func TestVersionIsWhatEnginesRead(t *testing.T) {
	for _, flag := range []string{"--version", "-v"} {
		out, _, code := call(t, ".", flag)
		lines := strings.Split(out, "\n")
		if code != 0 || len(lines) != 4 || !strings.HasPrefix(lines[0], filepath.Base(os.Args[0])+" version ") ||
			!strings.HasPrefix(lines[1], "commit: ") || !strings.HasPrefix(lines[2], "spec: 1.") {
			t.Errorf("%s: exit %d, %q", flag, code, out)
		}
	}
}

func TestVersionSaysWhatTheBuildSet(t *testing.T) {
	program := filepath.Join(t.TempDir(), "named")
	flags := "-X main.version=1.2.3 -X main.commit=0123456789ab"
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-ldflags", flags, "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out, err := exec.Command(program, "--version").Output()
	if err != nil || !strings.HasPrefix(string(out), "named version 1.2.3\ncommit: 0123456789ab\nspec: 1.") {
		t.Errorf("%v, %q", err, out)
	}
}

func TestAnswersWithoutContainers(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "state")
	for _, c := range []struct {
		args []string
		code int
		out  string // beginning of stdout
		err  string // part of stderr
	}{
		{[]string{}, 0, "NAME:\n   " + filepath.Base(os.Args[0]) + " - Open Container Initiative runtime\n", ""},
		{[]string{"--help"}, 0, "NAME:\n", ""},
		{[]string{"help", "create"}, 0, "NAME:\n", ""},
		{[]string{"help", "foo"}, 3, "", "No help topic for 'foo'"},
		{[]string{"delete", "-h"}, 0, "NAME:\n", ""},
		{[]string{"list"}, 1, "", "no such file or directory"},
		{[]string{"frob", "-h"}, 3, "", `No help topic for 'frob'`},
		{[]string{"create"}, 1, "", `"create" requires exactly 1 argument(s)`},
		{[]string{"kill", "a", "b", "c"}, 1, "", `"kill" requires a maximum of 2 argument(s)`},
		{[]string{"exec"}, 1, "", `"exec" requires a minimum of 1 argument(s)`},
		{[]string{"state", "ghost"}, 1, "", "container does not exist: ghost"},
		{[]string{"start", "ghost"}, 1, "", "container does not exist: ghost"},
		{[]string{"kill", "ghost", "9"}, 1, "", "container does not exist: ghost"},
		{[]string{"delete", "ghost"}, 1, "", "container does not exist: ghost"},
		{[]string{"delete", "--force", "ghost"}, 0, "", ""},
		{[]string{"exec", "ghost", "true"}, 255, "", "container does not exist: ghost"},
		{[]string{"create", "x"}, 1, "", filepath.Base(os.Args[0]) + " create failed: open "},
		{[]string{"run", "x"}, 1, "", filepath.Base(os.Args[0]) + " run failed: open "},
		{[]string{"plan", "no/such"}, 1, "", "config.json"},
		{[]string{"--rootless", "maybe", "list"}, 1, "", `--rootless: "maybe" is neither auto nor a boolean`},
		{[]string{"--log-format", "xml", "list"}, 1, "", "neither text nor json"},
	} {
		out, errs, code := call(t, dir, append([]string{"--root", root}, c.args...)...)
		if code != c.code || !strings.HasPrefix(out, c.out) || !strings.Contains(errs, c.err) || c.err == "" && errs != "" {
			t.Errorf("%v: exit %d, stdout %q, stderr %q; want %d, %q…, …%q…", c.args, code, out, errs, c.code, c.out, c.err)
		}
	}
	if _, err := os.Stat(root); err == nil {
		t.Error("questions made the state root")
	}
}

func TestListOfNothing(t *testing.T) {
	empty := t.TempDir()
	for _, c := range []struct {
		args, out, err string
		code           int
	}{
		{"list", "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n", "", 0},
		{"list -q", "", "", 0},
		{"list --format json", "null\n", "", 0},
		{"list -f xml", "", `invalid format option "xml"`, 1},
	} {
		out, errs, code := call(t, empty, append([]string{"--root", empty}, strings.Fields(c.args)...)...)
		if code != c.code || out != c.out || !strings.Contains(errs, c.err) {
			t.Errorf("%s: exit %d, %q, %q", c.args, code, out, errs)
		}
	}
}

func TestDefaultRoot(t *testing.T) {
	const dir = "/run/user/1"
	for _, c := range []struct {
		dir    string
		euid   int
		userns bool
		user   string
		want   string
	}{
		{dir, 0, false, "root", systemRoot},
		{dir, 0, false, "", systemRoot},
		{dir, 0, true, "root", systemRoot},
		{dir, 0, true, "me", dir + "/box-runtime"},
		{dir, 1, false, "me", dir + "/box-runtime"},
		{"", 1, false, "me", systemRoot},
	} {
		inside := func() bool { return c.userns }
		if got := rootFor(c.dir, c.euid, c.user, inside); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestSpecIsWrittenOnce(t *testing.T) {
	dir := t.TempDir()
	if _, errs, code := call(t, dir, "spec"); code != 0 {
		t.Fatal(errs)
	}
	data, err := os.ReadFile(dir + "/config.json")
	if err != nil || !json.Valid(data) {
		t.Fatalf("config.json: %v\n%s", err, data)
	}
	if _, errs, code := call(t, dir, "spec"); code != 1 || !strings.Contains(errs, "config.json exists") {
		t.Errorf("second spec: exit %d, %q", code, errs)
	}
}

func TestSpecExamples(t *testing.T) {
	has := func(s *specs.Spec, kind specs.LinuxNamespaceType) bool {
		return slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == kind })
	}
	if s := example(false, true); !has(s, specs.CgroupNamespace) || has(s, specs.UserNamespace) {
		t.Errorf("on a v2 host: %v", s.Linux.Namespaces)
	}
	if s := example(true, false); has(s, specs.CgroupNamespace) || !has(s, specs.UserNamespace) {
		t.Errorf("rootless on a v1 host: %v", s.Linux.Namespaces)
	}
	dir := t.TempDir()
	if _, errs, code := call(t, dir, "spec", "--rootless", "--bundle", dir); code != 0 {
		t.Fatal(errs)
	}
	data, err := os.ReadFile(dir + "/config.json")
	if err != nil || !strings.Contains(string(data), "uidMappings") {
		t.Errorf("spec --rootless: %v\n%s", err, data)
	}
}

func TestFeatures(t *testing.T) {
	out, _, code := call(t, ".", "features")
	var f struct {
		OCIVersionMax string
		Hooks         []string
		Linux         struct {
			Seccomp struct{ SupportedFlags []string }
		}
	}
	if err := json.Unmarshal([]byte(out), &f); err != nil || code != 0 {
		t.Fatalf("exit %d, %v: %s", code, err, out)
	}
	if f.OCIVersionMax == "" || len(f.Hooks) != 6 || f.Linux.Seccomp.SupportedFlags == nil {
		t.Errorf("features = %+v", f)
	}
}

func TestErrorsInJSON(t *testing.T) {
	_, errs, code := call(t, t.TempDir(), "--log-format", "json", "state", "<ghost>")
	var line struct{ Level, Msg, Time string }
	if err := json.Unmarshal([]byte(errs), &line); err != nil || code != 1 || line.Level != "error" || !strings.Contains(line.Msg, `"<ghost>"`) {
		t.Errorf("exit %d, %q (%v)", code, errs, err)
	}
}

// With a log, the message is there. Callers look for it on stderr as well, where that is
// theirs and not the container's.
func TestErrorsBesideTheLog(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		args []string
		onto string // stderr
	}{
		{[]string{"kill", "ghost", "KILL"}, "box-runtime: container does not exist: ghost\n"},
		{[]string{"state", "ghost"}, "box-runtime: container does not exist: ghost\n"},
		{[]string{"frobnicate"}, "box-runtime: No help topic for 'frobnicate'\n"},
		{[]string{"create", "ghost"}, ""},
		{[]string{"run", "ghost"}, ""},
		{[]string{"exec", "ghost", "true"}, ""},
		{[]string{"restore", "ghost"}, ""},
	} {
		log := filepath.Join(dir, "log."+c.args[0])
		_, errs, code := call(t, dir, append([]string{"--root", dir + "/state", "--log", log}, c.args...)...)
		text, err := os.ReadFile(log)
		if errs != c.onto || code == 0 || err != nil || !strings.Contains(string(text), "level=error") {
			t.Errorf("%v: exit %d, stderr %q, log %q, %v; want stderr %q", c.args, code, errs, text, err, c.onto)
		}
	}
}

// What is linked in decides how fast the program starts.
func TestNothingHeavyIsLinkedIn(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	for _, heavy := range []string{"net", "net/http", "regexp", "text/template", "encoding/xml", "crypto/tls", "log/slog", "google.golang.org/protobuf/proto"} {
		if slices.Contains(deps, heavy) {
			t.Errorf("%s is linked in", heavy)
		}
	}
}

// TestUsageNamesTheArguments: what a usage line has outside of brackets is what the verb
// cannot do without.
func TestUsageNamesTheArguments(t *testing.T) {
	for _, v := range verbs {
		c, depth, needed := v.make(&globals{}), 0, 0
		for word := range strings.FieldsSeq(c.usage) {
			if depth += strings.Count(word, "["); depth == 0 {
				needed++
			}
			depth -= strings.Count(word, "]")
		}
		if needed != c.min {
			t.Errorf("%s %s: needs %d arguments, not %d", v.name, c.usage, c.min, needed)
		}
	}
}
