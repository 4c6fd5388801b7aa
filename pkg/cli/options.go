package cli

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"box/internal/errdefs"
	"box/pkg/engine"
)

// containerFlags are the flags that run and create share.
type containerFlags struct {
	options     engine.CreateOptions
	env         []string
	envFiles    []string
	labels      []string
	entrypoint  *string
	stopTimeout *time.Duration
	pull        string
	quiet       bool
	cidFile     string
	network     string
}

// flags are those that work, and those that Docker has and box has not yet.
func (c *containerFlags) flags() []cli.Flag {
	o := &c.options
	return append([]cli.Flag{
		boolFlag(&o.OpenStdin, "interactive,i", "keep standard input open"),
		boolFlag(&o.Tty, "tty,t", "give the container a terminal"),
		textFlag(&o.Name, "name", "`name` of the container (a random one)"),
		listFlag(&o.Publish, "publish,p", "publish a port on the host: `[ip:][host:]port`"),
		boolFlag(&o.PublishAll, "publish-all,P", "publish every exposed port on a free one"),
		listFlag(&o.Expose, "expose", "declare a `port`"),
		listFlag(&o.Volumes, "volume,v", "mount a volume or a host directory: `[src:]dst[:ro]`"),
		listFlag(&c.env, "env,e", "set a variable, or take over the host's: `name[=value]`"),
		listFlag(&c.envFiles, "env-file", "read variables from a `file`, one a line"),
		textFlag(&o.WorkingDir, "workdir,w", "working directory in the container: `dir`"),
		textFlag(&o.User, "user,u", "user the command runs as: `user[:group]`"),
		parsedFlag(&c.entrypoint, "entrypoint", "replace the image's entrypoint: `command`", given),
		textFlag(&o.Hostname, "hostname,h", "host `name` (the container's short id)"),
		textFlag(&c.network, "network,net", "bridge (the default), host or none: `mode`"),
		listFlag(&o.ExtraHosts, "add-host", "add a line to /etc/hosts: `name:address`"),
		listFlag(&c.labels, "label,l", "attach a label: `key[=value]`"),
		boolFlag(&o.ReadOnly, "read-only", "mount the root file system read-only"),
		boolFlag(&o.AutoRemove, "rm", "remove the container when it ends"),
		textFlag(&o.StopSignal, "stop-signal", "`signal` that asks it to stop (SIGTERM)"),
		parsedFlag(&c.stopTimeout, "stop-timeout", "time to stop in before it is killed (10): `seconds`", seconds),
		textFlag(&c.pull, "pull", "always, missing (the default) or never: `when`"),
		boolFlag(&c.quiet, "quiet,q", "show no pull progress"),
		textFlag(&c.cidFile, "cidfile", "write the container's id into a new `file`"),
	}, refused(laterContainerFlags...)...)
}

// laterContainerFlags are Docker's, refused by name until they are built.
var laterContainerFlags = []string{
	"annotation", "attach,a", "blkio-weight", "blkio-weight-device", "cap-add", "cap-drop", "cgroup-parent", "cgroupns",
	"cpu-period", "cpu-quota", "cpu-rt-period", "cpu-rt-runtime", "cpu-shares,c", "cpus", "cpuset-cpus", "cpuset-mems",
	"device", "device-cgroup-rule", "device-read-bps", "device-read-iops", "device-write-bps",
	"device-write-iops", "disable-content-trust", "dns", "dns-option", "dns-search", "domainname", "gpus", "group-add",
	"health-cmd", "health-interval", "health-retries", "health-start-interval", "health-start-period", "health-timeout",
	"init", "ip", "ip6", "ipc", "isolation", "kernel-memory", "label-file", "link", "link-local-ip", "log-driver", "log-opt",
	"mac-address", "memory,m", "memory-reservation", "memory-swap", "memory-swappiness", "mount", "network-alias",
	"no-healthcheck", "oom-kill-disable", "oom-score-adj", "pid", "pids-limit", "platform", "privileged", "restart",
	"runtime", "security-opt", "shm-size", "storage-opt", "sysctl", "tmpfs", "ulimit", "userns", "uts", "volume-driver",
	"volumes-from",
}

// finish turns what was typed into the engine's options.
func (c *containerFlags) finish(cmd []string, lookup func(string) (string, bool)) (engine.CreateOptions, error) {
	o := c.options
	o.Cmd = cmd
	o.Network = c.network
	var err error
	if o.Env, err = environment(c.envFiles, c.env, lookup); err != nil {
		return o, err
	}
	if o.Labels, err = pairs(c.labels); err != nil {
		return o, err
	}
	if c.entrypoint != nil {
		o.ResetEntrypoint = true
		if *c.entrypoint != "" {
			o.Entrypoint = []string{*c.entrypoint}
		}
	}
	if c.stopTimeout != nil {
		seconds := int(c.stopTimeout.Seconds())
		o.StopTimeout = &seconds
	}
	return o, nil
}

// environment collects --env-file and --env. NAME alone takes over the host's
// value, and nothing if the host has none.
func environment(files, flags []string, lookup func(string) (string, bool)) ([]string, error) {
	var env, entries []string
	for _, file := range files {
		lines, err := readEnvFile(file)
		if err != nil {
			return nil, usage(err)
		}
		entries = append(entries, lines...)
	}
	for _, entry := range append(entries, flags...) {
		name, _, given := strings.Cut(entry, "=")
		if name == "" {
			return nil, usage(errdefs.New(errdefs.ErrInvalid, "variable %q has no name", entry))
		}
		if !given {
			value, ok := lookup(name)
			if !ok {
				continue
			}
			entry = name + "=" + value
		}
		env = append(env, entry)
	}
	return env, nil
}

// readEnvFile reads one entry a line. There is no quoting, as in Docker; empty
// lines and lines that begin with # are left out.
func readEnvFile(file string) ([]string, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errdefs.New(errdefs.ErrNotFound, "read --env-file %s: no such file", file)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var entries []string
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimLeft(strings.TrimPrefix(lines.Text(), "\ufeff"), " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		if name, _, _ := strings.Cut(line, "="); strings.ContainsAny(name, " \t") || name == "" {
			return nil, errdefs.New(errdefs.ErrInvalid, "read --env-file %s:%d: %q is no variable name", file, n, name)
		}
		entries = append(entries, line)
	}
	return entries, lines.Err()
}

// pairs reads KEY=VALUE entries; KEY alone has an empty value.
func pairs(entries []string) (map[string]string, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	m := make(map[string]string, len(entries))
	for _, e := range entries {
		key, value, _ := strings.Cut(e, "=")
		if key == "" {
			return nil, usage(errdefs.New(errdefs.ErrInvalid, "label %q has no key", e))
		}
		m[key] = value
	}
	return m, nil
}
