package engines

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// The images that critest pulls are not to be had here: others stand in, which do what the
// specs look at. Servers are busybox' httpd, called what the specs call it.

// standIn is an image in place of one of critest's.
type standIn struct {
	repository string // with tag, without registry
	user       string
	script     string // none: sh without arguments
}

const (
	// A spec looks for a process called nginx, another for its command line, and both
	// for its pid in a file.
	nginxScript = `mkdir -p /var/run "/www/master process"; echo $$ >/var/run/nginx.pid; cd "/www/master process"; echo ok >index.html; ` +
		`exec -a busybox /bin/nginx httpd -f -p PORT -h "/www/master process"`
	httpdScript = `mkdir -p /www; echo ok >/www/index.html; echo httpd; exec httpd -f -p 80 -h /www`
)

var standIns = []standIn{
	{repository: "e2e-test-images/busybox:1.29-2"},
	{repository: "e2e-test-images/nginx:1.14-2", script: strings.ReplaceAll(nginxScript, "PORT", "80")},
	{repository: "e2e-test-images/httpd:2.4.39-4", script: httpdScript},
	{repository: "e2e-test-images/nonewprivs:1.3", script: "exec /bin/geteuid"},
	{repository: "k8s-staging-cri-tools/hostnet-nginx-amd64:latest", script: strings.ReplaceAll(nginxScript, "PORT", "12003")},
	{repository: "k8s-staging-cri-tools/test-image-user-uid:latest", user: "1002"},
	{repository: "k8s-staging-cri-tools/test-image-user-username:latest", user: "www-data"},
	{repository: "k8s-staging-cri-tools/test-image-user-uid-group:latest", user: "1003:users"},
	{repository: "k8s-staging-cri-tools/test-image-user-username-group:latest", user: "www-data:100"},
	{repository: "k8s-staging-cri-tools/test-image-predefined-group:latest", user: "1000"},
	{repository: "k8s-staging-cri-tools/test-image-latest:latest", script: "latest"},
	{repository: "k8s-staging-cri-tools/test-image-tag:test", script: "test"},
	{repository: "k8s-staging-cri-tools/test-image-tag:all", script: "all"},
	{repository: "k8s-staging-cri-tools/test-image-1:latest", script: "1"},
	{repository: "k8s-staging-cri-tools/test-image-2:latest", script: "2"},
	{repository: "k8s-staging-cri-tools/test-image-3:latest", script: "3"},
	{repository: "k8s-staging-cri-tools/test-image-tags:1", script: "tags"},
	{repository: "k8s-staging-cri-tools/test-image-tags:2", script: "tags"},
	{repository: "k8s-staging-cri-tools/test-image-tags:3", script: "tags"},
	{repository: "pause:3.9", script: "exec sleep 1000000"},
}

// serveStandIns serves the images in a registry and returns the lines of containerd's
// configuration that make it the mirror of all others.
func serveStandIns(t *testing.T) (config string) {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	layer := standInLayer(t)
	for _, s := range standIns {
		ref, err := name.ParseReference(strings.TrimPrefix(server.URL, "http://")+"/"+s.repository, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(ref, s.image(t, layer)); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "_default"), 0o755); err != nil {
		t.Fatal(err)
	}
	hosts := fmt.Sprintf("server = %q\n[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n", server.URL, server.URL)
	if err := os.WriteFile(filepath.Join(dir, "_default", "hosts.toml"), []byte(hosts), 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("  [plugins.\"io.containerd.grpc.v1.cri\".registry]\n    config_path = %q\n", dir)
}

func (s standIn) image(t *testing.T, layer v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file.Architecture, file.OS = "amd64", "linux"
	file.Config = v1.Config{Env: []string{"PATH=/bin"}, User: s.user, Cmd: []string{"sh"}}
	if s.script != "" {
		file.Config.Cmd = []string{"sh", "-c", s.script}
	}
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	return img
}

// standInLayer is the layer of all of them: that of the other tests, users and groups
// that the specs name, and two programs.
func standInLayer(t *testing.T) v1.Layer {
	t.Helper()
	busybox, err := os.ReadFile(requireProgram(t, "busybox"))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for r := tar.NewReader(bytes.NewReader(imageLayer(t))); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		switch h.Name {
		case "etc/passwd", "etc/group", "bin/ls", "bin/pgrep", "bin/ipcs":
		default:
			addFile(t, w, h, data)
		}
	}
	file := func(name string, mode int64, data []byte) {
		addFile(t, w, &tar.Header{Name: name, Mode: mode, Size: int64(len(data))}, data)
	}
	file("etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/tmp:/bin/sh\nnobody:x:65534:65534::/tmp:/bin/sh\ndefault-user:x:1000:1000::/tmp:/bin/sh\n"))
	file("etc/group", 0o644, []byte("root:x:0:\nwww-data:x:33:\nusers:x:100:\ndefault-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n"))
	file("bin/nginx", 0o755, busybox)
	file("bin/ls", 0o755, busybox) // a spec masks it, which must not be all of busybox
	// Two that Debian's busybox is built without.
	file("bin/pgrep", 0o755, []byte("#!/bin/sh\ncd /proc; for p in [0-9]*; do test \"$(cat $p/comm)\" != $1 || echo $p; done 2>/dev/null\n"))
	file("bin/ipcs", 0o755, []byte("#!/bin/sh\ncat /proc/sysvipc/shm\n"))
	file("bin/geteuid", 0o4755, buildGeteuid(t))
	closeTar(t, w)
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return layer
}

// buildGeteuid is a program that tells whose rights it has: busybox gives up those of its
// file's owner.
func buildGeteuid(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	const source = "package main\n\nimport (\n\t\"fmt\"\n\t\"os\"\n)\n\nfunc main() { fmt.Println(\"Effective uid:\", os.Geteuid()) }\n"
	if err := os.WriteFile(dir+"/main.go", []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-o", dir+"/geteuid", dir+"/main.go")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOCACHE="+dir+"/cache", "GOFLAGS=", "GOTOOLCHAIN=local")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	data, err := os.ReadFile(dir + "/geteuid")
	if err != nil {
		t.Fatal(err)
	}
	return data
}
