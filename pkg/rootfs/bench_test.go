package rootfs

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"box/pkg/launch"
	"box/pkg/namespaces"
)

// BenchmarkStandard is the whole life of a container with the usual mounts and
// masks, whose command is the smallest possible: planning, compiling, starting, and
// the exit; "kernel" is the same without planning and compiling.
func BenchmarkStandard(b *testing.B) {
	if os.Getuid() != 0 {
		b.Skip("needs root: makes mounts and namespaces")
	}
	bin, err := exec.LookPath("busybox")
	if err != nil {
		b.Skip("needs a static busybox in PATH")
	}
	root := b.TempDir()
	for _, d := range []string{"bin", "proc", "sys", "dev"} {
		if err := os.Mkdir(filepath.Join(root, d), 0o755); err != nil {
			b.Fatal(err)
		}
	}
	data, err := os.ReadFile(bin)
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "bin/true"), data, 0o755); err != nil {
		b.Fatal(err)
	}
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			prog, ns := benchProgram(b, root)
			benchRun(b, prog, ns)
			prog.Close()
		}
	})
	b.Run("plan", func(b *testing.B) {
		for b.Loop() {
			prog, _ := benchProgram(b, root)
			prog.Close()
		}
	})
	b.Run("kernel", func(b *testing.B) {
		prog, ns := benchProgram(b, root)
		defer prog.Close()
		for b.Loop() {
			benchRun(b, prog, ns)
		}
	})
}

func benchProgram(b *testing.B, root string) (*launch.Program, *namespaces.Set) {
	b.Helper()
	s := standard(root)
	f, err := Look("/", s)
	if err != nil {
		b.Fatal(err)
	}
	ns, err := namespaces.From(s.Linux)
	if err != nil {
		b.Fatal(err)
	}
	r, err := New(s, ns, f)
	if err != nil {
		b.Fatal(err)
	}
	p := &launch.Plan{ReportFD: 3}
	ns.AddCgroup(p)
	r.AddMounts(p)
	r.AddMasks(p)
	r.AddPivot(p)
	p.Add(launch.Step{Name: "execute true", Call: launch.Execve, Args: launch.Args{
		launch.Text("/bin/true"), launch.Strings([]string{"true"}), launch.Nil,
	}})
	prog, err := launch.NewProgram(p)
	if err != nil {
		b.Fatal(err)
	}
	return prog, ns
}

func benchRun(b *testing.B, prog *launch.Program, ns *namespaces.Set) {
	b.Helper()
	attr := launch.Attr{}
	ns.Configure(&attr.Sys)
	proc, err := prog.Start(attr)
	if err != nil {
		b.Fatal(err)
	}
	defer proc.Close()
	if ws, err := proc.Wait(); err != nil || ws.ExitStatus() != 0 {
		_, failure := proc.Report()
		b.Fatal(ws, err, failure)
	}
}
