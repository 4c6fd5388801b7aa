package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"box/test/baseimage"
)

// startRegistry starts a docker-registry of the test's own. With a user it
// lets only that one in.
func startRegistry(t *testing.T, user, password string) string {
	t.Helper()
	dir := t.TempDir()
	htpasswd := ""
	if user != "" {
		require(t, "htpasswd")
		out, err := exec.Command("htpasswd", "-Bbn", user, password).Output()
		if err != nil {
			t.Fatal(err)
		}
		htpasswd = filepath.Join(dir, "htpasswd")
		if err := os.WriteFile(htpasswd, out, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r, err := baseimage.StartRegistry(context.Background(), dir, "127.0.0.1:0", htpasswd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Stop(); err != nil {
			t.Error(err)
		}
	})
	return r.Addr
}

// Scenario: what was built can be pushed to a registry, removed, and pulled back
// with the same digest; skopeo inspects it and podman runs it.
func TestPushPullSameDigest(t *testing.T) {
	h := newHost(t, "busybox")
	name := startRegistry(t, "", "") + "/team/app:1.0"
	h.box("build", "-t", name, h.context("FROM busybox\nRUN echo built > /built\nCMD [\"cat\", \"/built\"]\n"))
	id := h.box("images", "-q", "--no-trunc", name)
	pushed := h.box("push", "-q", name)
	h.box("rmi", name)
	h.fails(125, nil, "run", "--rm", "--pull", "never", name)
	h.box("pull", "-q", name)
	if again := h.box("images", "-q", "--no-trunc", name); again != id {
		t.Errorf("pulled back as %s, was %s", again, id)
	}
	_, digest, _ := strings.Cut(pushed, "@")
	if got := h.box("inspect", "--type", "image", "-f", "{{index .RepoDigests 0}}", name); !strings.HasSuffix(got, "@"+digest) {
		t.Errorf("pulled %s, pushed %s", got, pushed)
	}
	if again := h.box("push", "-q", name); again != pushed {
		t.Errorf("pushed again as %s, was %s", again, pushed)
	}
	if out := h.box("run", "--rm", name); out != "built" {
		t.Errorf("it prints %q", out)
	}
	h.skopeoSees(name, digest)
	h.podmanRuns(name)
}

func (h *host) skopeoSees(name, digest string) {
	h.t.Helper()
	if _, err := exec.LookPath("skopeo"); err != nil {
		h.t.Log("skopeo is not installed: not asked")
		return
	}
	r := h.run(nil, "skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}", "docker://"+name)
	if strings.TrimSpace(r.stdout) != digest {
		h.t.Errorf("skopeo sees %s, pushed was %s", r, digest)
	}
}

// podmanRuns runs the image with podman and podman's own runtime.
func (h *host) podmanRuns(name string) {
	h.t.Helper()
	if _, err := exec.LookPath("podman"); err != nil {
		h.t.Log("podman is not installed: not asked")
		return
	}
	storage := filepath.Join(h.dir, "podman")
	global := []string{"--root", storage, "--runroot", storage + "run", "--cgroup-manager", "cgroupfs"}
	if !onlyCgroup2() {
		global = append(global, "--runtime", "runc") // crun refuses to work where v1 and v2 are mixed
	}
	// The limits that podman sets by default need a capability that not every
	// root has.
	r := h.run(nil, "podman", append(global, "run", "--rm", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--network", "none", "--tls-verify=false", name)...)
	if r.stdout != "built\n" {
		h.t.Errorf("podman run: %s", r)
	}
	h.run(nil, "podman", append(global, "rmi", "-af")...)
	h.run(nil, "umount", "-q", filepath.Join(storage, "overlay"))
}

// Scenario: a registry with a password lets box in after login and not before;
// the password is in Docker's config.json, for its owner alone.
func TestRegistryWithPassword(t *testing.T) {
	h := newHost(t, "busybox")
	addr := startRegistry(t, "ada", "correct horse")
	name := addr + "/private/app"
	h.box("pull", "-q", "busybox")
	h.box("tag", "busybox", name)
	h.fails(1, []string{addr, "box login"}, "push", name)

	if r := h.run(strings.NewReader("wrong\n"), "box", "login", "-u", "ada", "--password-stdin", addr); r.code != 1 || !strings.Contains(r.stderr, "wrong") {
		t.Errorf("a wrong password: %s", r)
	}
	if r := h.run(strings.NewReader("correct horse\n"), "box", "login", "-u", "ada", "--password-stdin", addr); r.code != 0 || r.stdout != "Login Succeeded\n" {
		t.Fatalf("login: %s", r)
	}
	config := filepath.Join(h.dir, "home", ".docker", "config.json")
	st, err := os.Stat(config)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("config.json: %v, %v; want mode 0600", st, err)
	}
	pushed := h.box("push", "-q", name)
	h.box("rmi", name)
	if got := h.box("pull", "-q", name); got != name+":latest" {
		t.Errorf("pull printed %q", got)
	}
	if again := h.box("push", "-q", name); again != pushed {
		t.Errorf("pushed again as %s, was %s", again, pushed)
	}
	h.box("logout", addr)
	h.box("rmi", name)
	h.fails(1, []string{addr, "box login"}, "pull", name)
	if data, err := os.ReadFile(config); err != nil || strings.Contains(string(data), "auth\":") {
		t.Errorf("after logout config.json still has: %s, %v", data, err)
	}
}

// Scenario: a blob that does not match its digest is refused, and nothing of
// the image is kept.
func TestCorruptLayerIsRefused(t *testing.T) {
	h := newHost(t, "busybox")
	dir := t.TempDir()
	r, err := baseimage.StartRegistry(context.Background(), dir, "127.0.0.1:0", "")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Stop() //nolint:errcheck // it dies with this process anyhow
	if err := baseimage.Push(t.Context(), r.Addr, "busybox"); err != nil {
		t.Fatal(err)
	}
	corruptBiggest(t, filepath.Join(dir, "data"))
	name := r.Addr + "/library/busybox"
	h.fails(1, []string{name, "digest"}, "pull", name)
	h.fails(1, []string{name}, "rmi", name)
	if got := h.box("images", "-q"); got != "" {
		t.Errorf("an image is there: %s", got)
	}
}

// corruptBiggest changes one byte in the middle of the biggest file below dir.
func corruptBiggest(t *testing.T, dir string) {
	t.Helper()
	var biggest string
	var most int64
	err := filepath.Walk(dir, func(path string, st os.FileInfo, err error) error {
		if err == nil && st.Mode().IsRegular() && st.Size() > most {
			biggest, most = path, st.Size()
		}
		return err
	})
	if err != nil || biggest == "" {
		t.Fatalf("no blob in %s: %v", dir, err)
	}
	data, err := os.ReadFile(biggest)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 0xff
	if err := os.WriteFile(biggest, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// context makes a build context with nothing but a Dockerfile.
func (h *host) context(dockerfile string) string {
	h.t.Helper()
	dir := h.t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return dir
}
