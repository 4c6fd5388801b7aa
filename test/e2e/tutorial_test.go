package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"box/internal/testkit"
)

// Scenario: the Node.js service that tutorials use, unchanged, must build, run
// twice, and answer through an nginx container that balances over both.
func TestNodeTutorialBehindNginx(t *testing.T) {
	require(t, "mmdebstrap")
	h := newHost(t, "node", "nginx")
	h.build("node-app", "testdata/node-app")
	one, two, front := testkit.FreePort(t), testkit.FreePort(t), testkit.FreePort(t)
	h.box("run", "-d", "--name", "app1", "-p", one+":3000", "node-app")
	h.box("run", "-dp", two+":3000", "--name", "app2", "node-app")
	for _, port := range []string{one, two} {
		if page := h.fetch("http://127.0.0.1:" + port + "/"); !strings.HasPrefix(page, "Hello from ") {
			t.Errorf("port %s: %q", port, page)
		}
	}
	h.build("balancer", h.balancer(one, two))
	h.box("run", "-d", "--name", "front", "-p", front+":80", "balancer")
	seen := map[string]bool{}
	for range 20 {
		seen[h.fetch("http://127.0.0.1:"+front+"/")] = true
	}
	if len(seen) != 2 {
		t.Errorf("nginx should balance over two containers; it answered %q", keys(seen))
	}
	if page := h.fetch("http://" + hostAddress(t) + ":" + front + "/"); !seen[page] {
		t.Errorf("from the host's own address: %q", page)
	}

	// The second build runs nothing and gives the same image.
	id := h.box("images", "-q", "--no-trunc", "node-app")
	if r := h.try("build", "-t", "node-app", filepath.Join("..", "..", "testdata", "node-app")); !strings.Contains(r.stderr, " 0 steps run") {
		t.Errorf("the second build should run nothing: %s", r)
	}
	if again := h.box("images", "-q", "--no-trunc", "node-app"); again != id {
		t.Errorf("the second build gave %s, the first %s", again, id)
	}
	h.box("stop", "front", "app1", "app2")
	if got := h.box("ps", "-a", "--format", "{{.State}}"); got != "exited\nexited\nexited" {
		t.Errorf("after stop: %q", got)
	}
}

// build builds a directory of the repository, or an absolute one.
func (h *host) build(tag, dir string) {
	h.t.Helper()
	if !filepath.IsAbs(dir) {
		dir = filepath.Join("..", "..", dir)
	}
	h.box("build", "-t", tag, dir)
}

// balancer is testdata/nginx with the host's address and ports filled in.
func (h *host) balancer(one, two string) string {
	h.t.Helper()
	dir := h.t.TempDir()
	address := hostAddress(h.t)
	for _, name := range []string{"Dockerfile", "balance.conf"} {
		data, err := os.ReadFile(filepath.Join("..", "..", "testdata", "nginx", name))
		if err != nil {
			h.t.Fatal(err)
		}
		text := strings.NewReplacer("HOST:3001", address+":"+one, "HOST:3002", address+":"+two).Replace(string(data))
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			h.t.Fatal(err)
		}
	}
	return dir
}

func keys(m map[string]bool) []string {
	var all []string
	for k := range m {
		all = append(all, k)
	}
	return all
}
