package engines

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// imageRef is the image that all scenarios run.
const imageRef = "docker.io/library/busybox:engines"

// imageArchive writes an archive that every engine takes: an OCI layout which is
// also what `docker save` writes.
func imageArchive(t *testing.T) string {
	t.Helper()
	files := map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`)}
	type descriptor = map[string]any
	add := func(data []byte, media string) descriptor {
		sum := sha256.Sum256(data)
		name := hex.EncodeToString(sum[:])
		files["blobs/sha256/"+name] = data
		return descriptor{"mediaType": media, "digest": "sha256:" + name, "size": len(data)}
	}
	path := func(d descriptor) string {
		return "blobs/sha256/" + strings.TrimPrefix(d["digest"].(string), "sha256:")
	}
	layer := add(imageLayer(t), "application/vnd.oci.image.layer.v1.tar")
	config := add(asJSON(t, map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Env": []string{"PATH=/bin"}, "Cmd": []string{"/bin/sleep", "1000000"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []any{layer["digest"]}},
	}), "application/vnd.oci.image.config.v1+json")
	manifest := add(asJSON(t, map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"config": config, "layers": []any{layer},
	}), "application/vnd.oci.image.manifest.v1+json")
	manifest["annotations"] = map[string]string{"io.containerd.image.name": imageRef}
	files["index.json"] = asJSON(t, map[string]any{"schemaVersion": 2, "manifests": []any{manifest}})
	files["manifest.json"] = asJSON(t, []any{map[string]any{
		"Config": path(config), "RepoTags": []string{imageRef}, "Layers": []string{path(layer)},
	}})

	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for name, data := range files {
		addFile(t, w, &tar.Header{Name: name, Mode: 0o644, Size: int64(len(data))}, data)
	}
	closeTar(t, w)
	to := filepath.Join(t.TempDir(), "busybox.tar")
	if err := os.WriteFile(to, archive.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}

// imageLayer is a static busybox with its applets, a user, and files that cannot
// be executed, each in another way.
func imageLayer(t *testing.T) []byte {
	t.Helper()
	busybox := requireProgram(t, "busybox")
	binary, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	applets, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for dir, mode := range map[string]int64{"bin": 0o755, "dev": 0o755, "etc": 0o755, "proc": 0o755, "sys": 0o755, "tmp": 0o1777, "root": 0o700, "data": 0o755} {
		addFile(t, w, &tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: mode}, nil)
	}
	file := func(name string, mode int64, data []byte) {
		addFile(t, w, &tar.Header{Name: name, Mode: mode, Size: int64(len(data))}, data)
	}
	file("bin/busybox", 0o755, binary)
	file("etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/tmp:/bin/sh\n"))
	file("etc/group", 0o644, []byte("root:x:0:\napp:x:1000:\nextra:x:2000:app\n"))
	file("bin/not-executable", 0o644, []byte("#!/bin/sh\n"))
	file("bin/no-interpreter", 0o755, []byte("#!/no/such/interpreter\n"))
	file("data/seed", 0o644, []byte("seed\n"))
	for _, applet := range strings.Fields(string(applets)) {
		if applet != "busybox" {
			addFile(t, w, &tar.Header{Name: "bin/" + applet, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}, nil)
		}
	}
	closeTar(t, w)
	return b.Bytes()
}

func addFile(t *testing.T, w *tar.Writer, h *tar.Header, data []byte) {
	t.Helper()
	if err := w.WriteHeader(h); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
}

func closeTar(t *testing.T, w io.Closer) {
	t.Helper()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func asJSON(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
