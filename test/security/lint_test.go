package security

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"box/internal/testkit"
)

// use is one place in the source where a name of a package is used.
type use struct {
	file string // from the root of the repository
	name string // package.Name
	call *ast.CallExpr
}

// uses calls f for every package.Name in the programs' source, tests left out.
func uses(t *testing.T, dirs []string, f func(use)) {
	t.Helper()
	for _, dir := range dirs {
		err := filepath.WalkDir("../../"+dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			usesIn(file, strings.TrimPrefix(path, "../../"), f)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func usesIn(file *ast.File, path string, f func(use)) {
	calls := map[ast.Node]*ast.CallExpr{}
	ast.Inspect(file, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			calls[call.Fun] = call
		}
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if pkg, ok := sel.X.(*ast.Ident); ok {
			f(use{path, pkg.Name + "." + sel.Sel.Name, calls[n]})
		}
		return true
	})
}

// TestRootIsOnlyReachedInside: the rooms that work in a root file system have no calls
// that take a path of the host's, but those that are listed with what the path is.
func TestRootIsOnlyReachedInside(t *testing.T) {
	forbidden := []string{
		"launch.Mount", "launch.Chroot", "launch.Openat", "launch.Fchmodat", "launch.Linkat", "launch.Chdir",
		"unix.Mount", "unix.Open", "unix.Chmod", "unix.Chown", "unix.Mkdir", "unix.Mknod", "unix.Symlink", "unix.Creat",
		"os.Open", "os.OpenFile", "os.Create", "os.Mkdir", "os.MkdirAll", "os.Chmod", "os.Chown", "os.Lchown",
		"os.Symlink", "os.Link", "os.ReadFile", "os.WriteFile", "os.Rename", "os.Remove", "os.RemoveAll",
	}
	excused := map[string]string{
		"pkg/rootfs/masks.go launch.Openat": "the host's /dev/null, not followed and verified",
		"pkg/rootfs/pivot.go launch.Openat": "the old root, /",
		"pkg/rootfs/pivot.go launch.Chdir":  "the new root, /",
		"pkg/rootfs/pivot.go launch.Chroot": "the working directory, which is the new root",
		"pkg/rootfs/facts.go unix.Open":     "the root directory itself",
		"pkg/rootfs/facts.go os.ReadFile":   "our own mountinfo",
		"pkg/terminal/socket.go os.Remove":  "the caller's console socket",
	}
	seen := map[string]bool{}
	uses(t, []string{"pkg/rootfs", "pkg/terminal"}, func(u use) {
		if !slices.Contains(forbidden, u.name) {
			return
		}
		if key := u.file + " " + u.name; excused[key] == "" {
			t.Errorf("%s uses %s; resolve the path in the root, and use the descriptor", u.file, u.name)
		} else {
			seen[key] = true
		}
	})
	for key := range excused {
		if !seen[key] {
			t.Errorf("%s is excused and not there", key)
		}
	}
}

// TestProgramsAreNotLookedUp: no search for programs where PATH or the root could be a
// container's: CVE-2026-41567, CVE-2019-14271.
func TestProgramsAreNotLookedUp(t *testing.T) {
	uses(t, []string{"cmd", "pkg"}, func(u use) {
		if u.name == "exec.LookPath" && u.file != "pkg/ocirt/runtime.go" {
			t.Errorf("%s uses %s", u.file, u.name)
		}
	})
}

// TestOneHTTPClient: every request goes through the client that minds redirects and
// credentials.
func TestOneHTTPClient(t *testing.T) {
	uses(t, []string{"cmd", "pkg"}, func(u use) {
		switch u.name {
		case "http.Client", "http.Transport", "http.DefaultClient", "http.DefaultTransport", "http.Get", "http.Post", "http.Head":
			if !strings.HasPrefix(u.file, "pkg/image/registry/") {
				t.Errorf("%s uses %s", u.file, u.name)
			}
		}
	})
}

// TestNoAbstractSockets: CVE-2020-15257. Sockets have a path, in a private directory.
func TestNoAbstractSockets(t *testing.T) {
	uses(t, []string{"cmd", "pkg", "internal"}, func(u use) {
		if u.call == nil {
			return
		}
		for _, arg := range u.call.Args {
			name, ok := arg.(*ast.BasicLit)
			if ok && (strings.HasPrefix(name.Value, `"@`) || strings.HasPrefix(name.Value, `"\x00`)) &&
				(strings.Contains(u.name, "Listen") || strings.Contains(u.name, "Bind") || strings.Contains(u.name, "Addr")) {
				t.Errorf("%s: %s(%s)", u.file, u.name, name.Value)
			}
		}
	})
	out, _ := exec.Command("grep", "-rnE", `SockaddrUnix\{Name: *"(@|\\x00|\\000)`, "--include=*.go", "../../cmd", "../../pkg", "../../internal").Output()
	if len(out) > 0 {
		t.Errorf("%s", out)
	}
}

// TestGoIsRecent: os.Root follows symlinks with a slash behind them before Go 1.26.5
// (CVE-2026-39822).
func TestGoIsRecent(t *testing.T) {
	for line := range strings.Lines(testkit.Text(t, "../../go.mod")) {
		if version, ok := strings.CutPrefix(strings.TrimSpace(line), "go 1.26."); ok {
			if len(version) == 1 && version < "5" {
				t.Errorf("go.mod asks for Go 1.26.%s", version)
			}
			return
		}
	}
	t.Log("go.mod asks for another Go than 1.26")
}
