package plan

import (
	"maps"
	"slices"
	"strings"

	"box/internal/errdefs"
	"box/pkg/image"

	"github.com/opencontainers/image-spec/specs-go/v1"
)

// defaultPath is the search path of an image that does not set one.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// cloneConfig copies c deeply enough for every change that an instruction makes.
func cloneConfig(c *image.Config) *image.Config {
	d := *c
	d.Config.Env = slices.Clone(c.Config.Env)
	d.Config.Cmd = slices.Clone(c.Config.Cmd)
	d.Config.Entrypoint = slices.Clone(c.Config.Entrypoint)
	d.Config.OnBuild = slices.Clone(c.Config.OnBuild)
	d.Config.Shell = slices.Clone(c.Config.Shell)
	d.Config.ExposedPorts = maps.Clone(c.Config.ExposedPorts)
	d.Config.Volumes = maps.Clone(c.Config.Volumes)
	d.Config.Labels = maps.Clone(c.Config.Labels)
	d.History = slices.Clone(c.History)
	return &d
}

// scratchConfig is what FROM scratch starts with: BuildKit gives such an image
// a search path and a working directory too.
func scratchConfig(p v1.Platform) *image.Config {
	c := &image.Config{Platform: p}
	c.Config.WorkingDir = "/"
	c.Config.Env = []string{"PATH=" + defaultPath}
	return c
}

// shellOf gives the words that stand before a command in shell form.
func shellOf(c *image.RunConfig) []string {
	if len(c.Shell) > 0 {
		return c.Shell
	}
	return []string{"/bin/sh", "-c"}
}

// parsePlatform reads the value of a --platform flag of FROM.
func parsePlatform(s string) (v1.Platform, error) {
	p, err := image.ParsePlatform(s)
	if err == nil && p.OS != "linux" {
		err = errdefs.New(errdefs.ErrUnsupported, "platform %q: only linux images are built", s)
	}
	return p, err
}

// setEnv replaces a variable in place or appends it: its order is seen by users.
func setEnv(env []string, key, value string) []string {
	for i, kv := range env {
		if name, _, _ := strings.Cut(kv, "="); name == key {
			env[i] = key + "=" + value
			return env
		}
	}
	return append(env, key+"="+value)
}

// getEnv looks a variable up.
func getEnv(env []string, key string) (string, bool) {
	for _, kv := range env {
		if name, value, _ := strings.Cut(kv, "="); name == key {
			return value, true
		}
	}
	return "", false
}
