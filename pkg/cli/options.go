package cli

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"

	"box/internal/errdefs"
	"box/pkg/cli/argv"
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

// register adds the flags to a command. What Docker has and box has not yet is
// listed at the end.
func (c *containerFlags) register(s *argv.Set) {
	o := &c.options
	s.Bool(&o.OpenStdin, "interactive", 'i', "keep standard input open")
	s.Bool(&o.Tty, "tty", 't', "give the container a terminal")
	s.String(&o.Name, "name", 0, "name", "name of the container (a random one)")
	s.List(&o.Publish, "publish", 'p', "[ip:][host:]port", "publish a port on the host")
	s.Bool(&o.PublishAll, "publish-all", 'P', "publish every exposed port on a free one")
	s.List(&o.Expose, "expose", 0, "port", "declare a port")
	s.List(&o.Volumes, "volume", 'v', "[src:]dst[:ro]", "mount a volume or a host directory")
	s.List(&c.env, "env", 'e', "name[=value]", "set a variable, or take over the host's")
	s.List(&c.envFiles, "env-file", 0, "file", "read variables from a file, one a line")
	s.String(&o.WorkingDir, "workdir", 'w', "dir", "working directory in the container")
	s.String(&o.User, "user", 'u', "user[:group]", "user the command runs as")
	s.Add(argv.Flag{Name: "entrypoint", Value: "command", Usage: "replace the image's entrypoint"}, func(v string) error {
		c.entrypoint = &v
		return nil
	})
	s.String(&o.Hostname, "hostname", 'h', "name", "host name (the container's short id)")
	s.String(&c.network, "network", 0, "mode", "bridge (the default), host or none")
	s.String(&c.network, "net", 0, "mode", "the same as --network")
	s.List(&o.ExtraHosts, "add-host", 0, "name:address", "add a line to /etc/hosts")
	s.List(&c.labels, "label", 'l', "key[=value]", "attach a label")
	s.Bool(&o.ReadOnly, "read-only", 0, "mount the root file system read-only")
	s.Bool(&o.AutoRemove, "rm", 0, "remove the container when it ends")
	s.String(&o.StopSignal, "stop-signal", 0, "signal", "signal that asks it to stop (SIGTERM)")
	s.Seconds(&c.stopTimeout, "stop-timeout", 0, "time to stop in before it is killed (10)")
	s.String(&c.pull, "pull", 0, "when", "always, missing (the default) or never")
	s.Bool(&c.quiet, "quiet", 'q', "show no pull progress")
	s.String(&c.cidFile, "cidfile", 0, "file", "write the container's id into a new file")
	s.Refuse(laterContainerFlags...)
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
