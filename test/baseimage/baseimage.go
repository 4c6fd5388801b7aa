// Package baseimage makes the images that tutorials start from (busybox,
// debian, node:14, nginx) out of Debian's packages, and serves them under
// their usual names from a registry on loopback that stands in for docker.io.
//
// It is for tests, the benchmark and `make mirror`, on machines that reach
// Debian's archive but no image registry. scripts/rootfs.sh makes the root file
// systems and keeps them in a cache outside the checkout; this package gives
// each its image config.
package baseimage

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// base is what Debian's packages do not say of an image.
type base struct {
	tags   []string
	config v1.Config
}

// bases are the images by the name that scripts/rootfs.sh knows them under.
var bases = map[string]base{
	"busybox": {
		tags:   []string{"library/busybox:latest"},
		config: v1.Config{Env: []string{path}, Cmd: []string{"sh"}},
	},
	"debian": {
		tags:   []string{"library/debian:latest", "library/debian:12", "library/debian:bookworm"},
		config: v1.Config{Env: []string{path}, Cmd: []string{"bash"}},
	},
	"node": {
		// The version is the tutorial's; the program is Debian's.
		tags: []string{"library/node:14", "library/node:latest"},
		config: v1.Config{
			Env: []string{path, "NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt"},
			Cmd: []string{"node"},
		},
	},
	"nginx": {
		tags: []string{"library/nginx:latest"},
		config: v1.Config{
			Env:          []string{path},
			Cmd:          []string{"nginx", "-g", "daemon off; error_log stderr;"},
			ExposedPorts: map[string]struct{}{"80/tcp": {}},
			StopSignal:   "SIGQUIT",
		},
	},
}

// Names lists the images that can be made.
func Names() []string { return []string{"busybox", "debian", "node", "nginx"} }

// Rootfs returns the path of the image's root file system, a tar.gz, and makes
// it if it is not in the cache. Making needs root, and half a minute each.
func Rootfs(ctx context.Context, image string) (string, error) {
	_, self, _, _ := runtime.Caller(0)
	script := filepath.Join(filepath.Dir(self), "..", "..", "scripts", "rootfs.sh")
	cmd := exec.CommandContext(ctx, "sh", script, image)
	var out, messages bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &messages
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("make the %s root file system: %w: %s", image, err, messages.String())
	}
	return strings.TrimSpace(out.String()), nil
}

// Image returns the image itself. Its layer is read from the cache file while
// it is used.
func Image(ctx context.Context, image string) (v1.Image, error) {
	b, ok := bases[image]
	if !ok {
		return nil, fmt.Errorf("base image %s: unknown; known: %s", image, strings.Join(Names(), " "))
	}
	file, err := Rootfs(ctx, image)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromFile(file, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if img, err = mutate.AppendLayers(img, layer); err != nil {
		return nil, fmt.Errorf("base image %s: %w", image, err)
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("base image %s: %w", image, err)
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture, cfg.Config = "linux", runtime.GOARCH, b.config
	return mutate.ConfigFile(img, cfg)
}

// Push puts the named images into the registry at addr (host:port, plain http)
// under their usual names.
func Push(ctx context.Context, addr string, images ...string) error {
	for _, image := range images {
		img, err := Image(ctx, image)
		if err != nil {
			return err
		}
		for _, tag := range bases[image].tags {
			ref, err := name.ParseReference(addr+"/"+tag, name.Insecure)
			if err != nil {
				return err
			}
			if err := remote.Write(ref, img, remote.WithContext(ctx), remote.WithTransport(http.DefaultTransport)); err != nil {
				return fmt.Errorf("push %s: %w", ref, err)
			}
		}
	}
	return nil
}

// WriteRegistries writes a registries.toml that sends docker.io to the mirror
// at addr, and allows plain http to it and to the other given registries.
func WriteRegistries(file, addr string, insecure ...string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "[[registry]]\nprefix = \"docker.io\"\nlocation = \"docker.io\"\n\n")
	fmt.Fprintf(&b, "[[registry.mirror]]\nlocation = %q\ninsecure = true\n", addr)
	for _, host := range insecure {
		fmt.Fprintf(&b, "\n[[registry]]\nlocation = %q\ninsecure = true\n", host)
	}
	return os.WriteFile(file, []byte(b.String()), 0o644)
}
