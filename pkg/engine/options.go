package engine

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/pkg/image"
	"box/pkg/record"
	"box/pkg/spec/gen"
)

// CreateOptions says what a new container is. The zero value of a field means
// what the image says, or Docker's default.
type CreateOptions struct {
	Image     *image.Image // required
	ImageName string       // as the user wrote it, for `ps`

	Name       string // a random one if empty
	Hostname   string // first 12 digits of the id if empty
	Entrypoint []string
	// ResetEntrypoint drops the image's entrypoint (and, as Docker does, its
	// command) even when Entrypoint is empty: `--entrypoint ""`.
	ResetEntrypoint bool
	Cmd             []string
	Env             []string // NAME=VALUE, or NAME= for empty; resolved by the caller
	User            string
	WorkingDir      string
	Labels          map[string]string
	StopSignal      string
	StopTimeout     *int // seconds, -1 for ever
	Tty             bool
	OpenStdin       bool // keep stdin open
	StdinOnce       bool // close it when the client that started the container leaves
	AutoRemove      bool

	Network    string   // bridge, host or none; bridge if empty
	Publish    []string // -p syntax: [ip:][host]:container[/proto], ranges allowed
	PublishAll bool     // publish every exposed port on an ephemeral one
	Expose     []string // more exposed ports, "80" or "80/tcp"
	ExtraHosts []string // "name:address"

	Volumes  []string // -v syntax: [source:]destination[:options]
	ReadOnly bool     // read-only root file system
}

// Network modes.
const (
	NetworkBridge = "bridge" // own network namespace on box's bridge
	NetworkHost   = "host"   // the host's network
	NetworkNone   = "none"   // own network namespace with nothing but loopback
)

// defaultStopTimeout is Docker's, in seconds.
const defaultStopTimeout = 10

// newRecord merges options and image into the record of a container. It is
// pure: it looks at nothing and changes nothing.
func newRecord(id string, o CreateOptions) (*record.Record, error) {
	if o.Image == nil {
		return nil, errdefs.New(errdefs.ErrInvalid, "create container: no image given")
	}
	conf, err := newConfig(id, o)
	if err != nil {
		return nil, err
	}
	host, err := newHost(id, o, conf.ExposedPorts)
	if err != nil {
		return nil, err
	}
	return &record.Record{
		ID:     id,
		Name:   o.Name,
		Image:  record.Image{ID: o.Image.ID, Name: imageName(o), ChainID: o.Image.ChainID()},
		Config: conf,
		Host:   host,
		State:  record.State{Status: record.Created},
	}, nil
}

func imageName(o CreateOptions) string {
	switch {
	case o.ImageName != "":
		return o.ImageName
	case len(o.Image.Names) > 0:
		return o.Image.Names[0]
	}
	return o.Image.ID.String()
}

func newConfig(id string, o CreateOptions) (record.Config, error) {
	img := o.Image.Config.Config
	c := record.Config{
		Hostname:    or(o.Hostname, record.Short(id)),
		User:        or(o.User, img.User),
		WorkingDir:  or(o.WorkingDir, img.WorkingDir),
		Labels:      mergeLabels(img.Labels, o.Labels),
		StopSignal:  or(o.StopSignal, img.StopSignal),
		StopTimeout: defaultStopTimeout,
		Tty:         o.Tty,
		OpenStdin:   o.OpenStdin,
		StdinOnce:   o.StdinOnce,
	}
	if o.StopTimeout != nil {
		c.StopTimeout = *o.StopTimeout
	}
	c.Entrypoint, c.Cmd = command(o)
	if len(c.Entrypoint)+len(c.Cmd) == 0 {
		return c, errdefs.New(errdefs.ErrInvalid, "create container: no command given, and image %s has none", imageName(o))
	}
	if c.WorkingDir != "" && !strings.HasPrefix(c.WorkingDir, "/") {
		return c, errdefs.New(errdefs.ErrInvalid, "create container: working directory %q is not absolute", c.WorkingDir)
	}
	if _, err := ParseSignal(or(c.StopSignal, "TERM")); err != nil {
		return c, err
	}
	var err error
	c.Env, err = environment(c, img.Env, o.Env)
	if err != nil {
		return c, err
	}
	c.ExposedPorts, err = exposed(img.ExposedPorts, o.Expose)
	return c, err
}

// command applies Docker's rule: a new entrypoint drops the image's command.
func command(o CreateOptions) (entrypoint, cmd []string) {
	img := o.Image.Config.Config
	if o.ResetEntrypoint || len(o.Entrypoint) > 0 {
		return slices.Clone(o.Entrypoint), slices.Clone(o.Cmd)
	}
	if len(o.Cmd) > 0 {
		return slices.Clone(img.Entrypoint), slices.Clone(o.Cmd)
	}
	return slices.Clone(img.Entrypoint), slices.Clone(img.Cmd)
}

// environment is what Docker gives: PATH, HOSTNAME and TERM, then the image's,
// then the user's; later entries replace earlier ones in place. HOME is added
// when the user is known; see withHome.
func environment(c record.Config, fromImage, fromUser []string) ([]string, error) {
	env := []string{"PATH=" + gen.DefaultPath, "HOSTNAME=" + c.Hostname}
	if c.Tty {
		env = append(env, "TERM=xterm")
	}
	env, err := mergeEnv(env, slices.Concat(fromImage, fromUser))
	if err != nil {
		return nil, fmt.Errorf("create container: %w", err)
	}
	return env, nil
}

// mergeEnv puts entries into env, each in the place of the one of its name. It
// looks them up by name: an image may bring a million.
func mergeEnv(env, entries []string) ([]string, error) {
	places := make(map[string]int, len(env)+len(entries))
	for i, e := range env {
		name, _, _ := strings.Cut(e, "=")
		places[name] = i
	}
	for _, e := range entries {
		// An entry without a value would ask for the host's (CVE-2026-57231).
		name, _, ok := strings.Cut(e, "=")
		if !ok || name == "" {
			return nil, errdefs.New(errdefs.ErrInvalid, "environment entry %q is not NAME=VALUE", e)
		}
		if i, there := places[name]; there {
			env[i] = e
			continue
		}
		places[name] = len(env)
		env = append(env, e)
	}
	return env, nil
}

// withHome adds HOME unless the image or the user has set one.
func withHome(env []string, home string) ([]string, error) {
	if slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "HOME=") }) {
		return env, nil
	}
	// passwd is the image's: a line break would add a variable (CVE-2022-4318).
	if strings.ContainsAny(home, "\n\x00") {
		return nil, errdefs.New(errdefs.ErrInvalid, "create container: home directory %q in the image's passwd", home)
	}
	return append(env, "HOME="+home), nil
}

func mergeLabels(image, user map[string]string) map[string]string {
	if len(image)+len(user) == 0 {
		return nil
	}
	all := make(map[string]string, len(image)+len(user))
	for k, v := range image {
		all[k] = v
	}
	for k, v := range user {
		all[k] = v
	}
	return all
}

// exposed collects ports in the form "80/tcp", sorted and without doubles.
func exposed(fromImage map[string]struct{}, fromUser []string) ([]string, error) {
	var all []string
	for p := range fromImage {
		all = append(all, p)
	}
	all = append(all, fromUser...)
	for i, p := range all {
		if !strings.Contains(p, "/") {
			all[i] = p + "/tcp"
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

func newHost(id string, o CreateOptions, exposed []string) (record.Host, error) {
	h := record.Host{
		NetworkMode:    or(o.Network, NetworkBridge),
		ExtraHosts:     slices.Clone(o.ExtraHosts),
		AutoRemove:     o.AutoRemove,
		ReadonlyRootfs: o.ReadOnly,
		CgroupsPath:    cgroupPath(id),
	}
	switch h.NetworkMode {
	case NetworkBridge:
	case NetworkHost, NetworkNone:
		// Docker prints a warning and publishes nothing; a port that was asked for
		// and is not there is worth an error.
		if len(o.Publish) > 0 {
			return h, errdefs.New(errdefs.ErrInvalid, "create container: ports cannot be published with network mode %q", h.NetworkMode)
		}
	default:
		return h, errdefs.New(errdefs.ErrUnsupported, "create container: network %q: only bridge, host and none are built yet", h.NetworkMode)
	}
	for _, entry := range o.ExtraHosts {
		if err := checkExtraHost(entry); err != nil {
			return h, err
		}
	}
	var err error
	h.Ports, err = publish(o, exposed)
	return h, err
}

// cgroupPath is the control group of a container. It has no parent of box's own:
// that would have to be removed behind the last container, and a runtime that is
// making another one below it at that moment fails (runc does not try again).
func cgroupPath(id string) string { return "/box-" + id }

// ParseSignal reads a signal as users write it: a number, or a name with or
// without SIG, in any case.
func ParseSignal(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil && n > 0 && n <= maxSignal {
		return syscall.Signal(n), nil
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if n := unix.SignalNum(name); n != 0 {
		return n, nil
	}
	if n, ok := realtime(name); ok {
		return n, nil
	}
	return 0, errdefs.New(errdefs.ErrInvalid, "invalid signal %q", s)
}

// Real-time signals as glibc numbers them for programs.
const (
	minRealtime = 34
	maxSignal   = 64
)

// realtime reads SIGRTMIN, SIGRTMIN+n, SIGRTMAX and SIGRTMAX-n.
func realtime(name string) (syscall.Signal, bool) {
	base, offset := 0, ""
	switch {
	case strings.HasPrefix(name, "SIGRTMIN"):
		base, offset = minRealtime, name[len("SIGRTMIN"):]
	case strings.HasPrefix(name, "SIGRTMAX"):
		base, offset = maxSignal, name[len("SIGRTMAX"):]
	default:
		return 0, false
	}
	if offset == "" {
		return syscall.Signal(base), true
	}
	n, err := strconv.Atoi(offset)
	if err != nil || base+n < minRealtime || base+n > maxSignal {
		return 0, false
	}
	return syscall.Signal(base + n), true
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
