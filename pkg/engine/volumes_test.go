package engine

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"box/internal/errdefs"
	"box/pkg/image"
)

func TestVolumes(t *testing.T) {
	f := newFixture(t)
	img := f.makeImage(func(c *image.Config, root string) {
		c.Config.Volumes = map[string]struct{}{"/data": {}, "../../escape": {}}
		for name, mode := range map[string]os.FileMode{"data/a": 0o640, "data/sub/b": 0o755} {
			path := filepath.Join(root, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(name), mode), os.Chown(path, 1000, 1000)); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(os.Link(filepath.Join(root, "data/a"), filepath.Join(root, "data/hard")), os.Symlink("/etc/passwd", filepath.Join(root, "data/soft")), os.Chmod(filepath.Join(root, "data"), 0o777|os.ModeSticky)); err != nil {
			t.Fatal(err)
		}
	})
	host := filepath.Join(t.TempDir(), "made", "for", "me")
	o := f.sh("stat -c '%a %u' /data /data/a /data/sub/b; cat /data/hard /data/sub/b; echo; stat -c %h /data/a; echo x > /host/x; echo y > /ro/y || echo readonly; ls /escape; echo z >> /named/z; cat /named/z; ls /named/sub")
	o.Image = img
	o.Volumes = []string{host + ":/host", host + ":/ro:ro", "store:/named"}
	want := "1777 0\n640 1000\n755 1000\ndata/adata/sub/b\n2\nreadonly\nz\n"
	code, out, errs := f.run(o)
	if out != want || code == 0 { // the last ls fails
		t.Errorf("code %d, got %q, want %q (stderr %q)", code, out, want, errs)
	}
	if data, err := os.ReadFile(filepath.Join(host, "x")); err != nil || string(data) != "x\n" {
		t.Errorf("host file: %q %v", data, err)
	}
	names, err := os.ReadDir(filepath.Join(f.config.Root, "volumes"))
	if err != nil || len(names) != 1 || names[0].Name() != "store" {
		t.Errorf("volumes left: %v %v, want only the named one", names, err)
	}
	if err := os.RemoveAll(filepath.Join(f.config.Root, "volumes", "store")); err != nil {
		t.Error(err)
	}
	if _, err := f.Create(t.Context(), CreateOptions{Image: img, Volumes: []string{"/a:/x", "/b:/x"}}); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("duplicate mount point: %v", err)
	}
	f.checkNothingLeft()
}
