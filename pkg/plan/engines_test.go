package plan

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/pkg/launch"
	"box/pkg/rootfs"
	"box/pkg/spec"
)

// The files in testdata/engines are what engines of Debian 12 (docker 20.10, podman 4.3,
// containerd 1.6, buildah 1.28) have sent for the scenarios of test/engines, with names
// and paths of their machine made neutral. Of seccomp profiles, one file of each engine
// has the whole list of calls, the others its first entry.
const engines = "testdata/engines/"

// sentFiles are the files whose names begin, or do not begin, with "exec-".
func sentFiles(t *testing.T, exec bool) map[string]string {
	t.Helper()
	files, err := filepath.Glob(engines + "*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	found := map[string]string{}
	for _, file := range files {
		if name := strings.TrimSuffix(filepath.Base(file), ".json"); strings.HasPrefix(name, "exec-") == exec {
			found[name] = file
		}
	}
	return found
}

// fileMounts are the mount points that are files in what engines send.
var fileMounts = []string{"hosts", "hostname", "resolv.conf", ".containerenv", "termination-log"}

// sentFacts is a host on which all that a spec names is there.
func sentFacts(s *specs.Spec) *Facts {
	f := goldenFacts
	f.Root = rootfs.Facts{Root: s.Root.Path, Cgroup2: "/sys/fs/cgroup", Kcore: true}
	for _, m := range s.Mounts {
		facts := rootfs.MountFacts{}
		if m.Type == "bind" || slices.Contains(m.Options, "rbind") || slices.Contains(m.Options, "bind") {
			facts.Source, facts.File = m.Source, slices.Contains(fileMounts, path.Base(m.Destination))
		}
		f.Root.Mounts = append(f.Root.Mounts, facts)
	}
	return &f
}

// summary is a plan with one line for each thing that is done, and the calls that do it.
func summary(p *launch.Plan) string {
	var b strings.Builder
	last := ""
	for _, s := range p.Steps() {
		what, _, _ := strings.Cut(s.Name, ": ")
		if what != last {
			b.WriteString("\n" + what + ":")
		}
		b.WriteString(" " + s.Call.String())
		last = what
	}
	return strings.TrimPrefix(b.String(), "\n") + "\n"
}

// TestGoldenEngines pins the plans for what engines send: a step that comes or goes there
// comes or goes on people's machines.
func TestGoldenEngines(t *testing.T) {
	for name, file := range sentFiles(t, false) {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s, err := spec.Decode(file, data)
			if err != nil {
				t.Fatal(err)
			}
			if err := spec.Validate(s); err != nil {
				t.Fatal(err)
			}
			c := draftOf(t, s, sentFacts(s))
			if notes := c.Notes(); len(notes) > 0 && !strings.HasPrefix(name, "buildah") {
				t.Errorf("warned: %q", notes)
			}
			b, err := c.Assemble()
			if err != nil {
				t.Fatal(err)
			}
			compareGolden(t, "testdata/engine-"+name+".golden", summary(b.Plan))
			checkWhole(t, b.Plan)
		})
	}
}

// TestGoldenEnginesExec does the same for process.json.
func TestGoldenEnginesExec(t *testing.T) {
	const join = unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET
	for name, file := range sentFiles(t, true) {
		t.Run(name, func(t *testing.T) {
			p, err := spec.LoadProcess(file)
			if err != nil {
				t.Fatal(err)
			}
			proc, err := NewProcess("c1", p, &goldenFacts, false)
			if err != nil {
				t.Fatal(err)
			}
			b, err := (&Exec{Process: proc, Join: join, Pidfd: 5, Layout: Layout{Free: 3, Report: 3, Permit: 4}}).Assemble()
			if err != nil {
				t.Fatal(err)
			}
			compareGolden(t, "testdata/engine-"+name+".golden", summary(b.Plan))
			checkWhole(t, b.Plan)
		})
	}
}

// checkWhole checks that each step has a name and a reason, and that the plan compiles
// for both machines.
func checkWhole(t *testing.T, p *launch.Plan) {
	t.Helper()
	for i, step := range p.Steps() {
		if step.Name == "" || strings.TrimSpace(step.Why) == "" {
			t.Errorf("step %d (%s %q) does not say what it is for", i, step.Call, step.Name)
		}
	}
	for _, arch := range []launch.Arch{"amd64", "arm64"} {
		if _, err := launch.Compile(p, arch); err != nil {
			t.Errorf("%s: %v", arch, err)
		}
	}
}
