package engine

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"box/pkg/record"
)

// Inspection is what `inspect` prints: Docker's field names, as far as there is
// something to say.
type Inspection struct {
	ID              string `json:"Id"`
	Created         time.Time
	Path            string
	Args            []string
	State           InspectState
	Image           string // digest of the image's configuration
	ResolvConfPath  string
	HostnamePath    string
	HostsPath       string
	LogPath         string
	Name            string // with Docker's leading slash
	Driver          string
	Runtime         string
	HostConfig      InspectHost
	Mounts          []InspectMount
	Config          InspectConfig
	NetworkSettings InspectNetwork
}

// InspectState is Docker's State.
type InspectState struct {
	Status     string
	Running    bool
	Paused     bool
	Restarting bool
	OOMKilled  bool
	Dead       bool
	Pid        int
	ExitCode   int
	Error      string
	StartedAt  time.Time
	FinishedAt time.Time
}

// InspectHost is the part of Docker's HostConfig that box knows.
type InspectHost struct {
	Binds          []string
	NetworkMode    string
	PortBindings   map[string][]PortBinding
	AutoRemove     bool
	ReadonlyRootfs bool
	ExtraHosts     []string
	CgroupParent   string
}

// InspectMount is one of Docker's Mounts.
type InspectMount struct {
	Type        string
	Name        string `json:",omitempty"`
	Source      string
	Destination string
	Mode        string
	RW          bool
	Propagation string
}

// InspectConfig is the part of Docker's Config that box knows.
type InspectConfig struct {
	Hostname     string
	User         string
	Tty          bool
	OpenStdin    bool
	StdinOnce    bool
	Env          []string
	Cmd          []string
	Image        string
	Volumes      map[string]struct{} `json:",omitempty"`
	WorkingDir   string
	Entrypoint   []string
	ExposedPorts map[string]struct{} `json:",omitempty"`
	Labels       map[string]string
	StopSignal   string `json:",omitempty"`
	StopTimeout  int
}

// InspectNetwork is Docker's NetworkSettings.
type InspectNetwork struct {
	Ports       map[string][]PortBinding
	IPAddress   string
	IPPrefixLen int
	Gateway     string
	MacAddress  string
	Networks    map[string]InspectEndpoint
}

// InspectEndpoint is one of Docker's Networks.
type InspectEndpoint struct {
	IPAddress   string
	IPPrefixLen int
	Gateway     string
	MacAddress  string
}

// PortBinding is Docker's: both are strings.
type PortBinding struct {
	HostIP   string `json:"HostIp"`
	HostPort string
}

// Inspect tells everything about one container.
func (e *Engine) Inspect(ctx context.Context, nameOrID string) (*Inspection, error) {
	r, err := e.find(ctx, nameOrID)
	if err != nil {
		return nil, err
	}
	i := inspection(r)
	dir := e.records.Dir(r.ID)
	i.ResolvConfPath = filepath.Join(dir, record.ResolvFile)
	i.HostnamePath = filepath.Join(dir, record.HostnameFile)
	i.HostsPath = filepath.Join(dir, record.HostsFile)
	i.LogPath = filepath.Join(dir, record.LogFile)
	return i, nil
}

func inspection(r *record.Record) *Inspection {
	i := &Inspection{
		ID:              r.ID,
		Created:         r.Created,
		State:           inspectState(r.State),
		Image:           r.Image.ID.String(),
		Name:            "/" + r.Name,
		Driver:          "overlay",
		Runtime:         r.Runtime.Path,
		HostConfig:      inspectHost(r.Host),
		Config:          inspectConfig(r),
		NetworkSettings: inspectNetwork(r),
		Mounts:          []InspectMount{},
	}
	if args := r.Config.Args(); len(args) > 0 {
		i.Path, i.Args = args[0], args[1:]
	}
	for _, m := range r.Host.Mounts {
		mode := ""
		if m.ReadOnly {
			mode = "ro"
		}
		i.Mounts = append(i.Mounts, InspectMount{
			Type: m.Type, Name: m.Name, Source: m.Source, Destination: m.Destination,
			Mode: mode, RW: !m.ReadOnly, Propagation: or(m.Propagation, "rprivate"),
		})
	}
	return i
}

func inspectState(s record.State) InspectState {
	return InspectState{
		Status:     string(s.Status),
		Running:    s.Status == record.Running,
		Dead:       s.Status == record.Dead,
		OOMKilled:  s.OOMKilled,
		Pid:        s.Pid,
		ExitCode:   s.ExitCode,
		Error:      s.Error,
		StartedAt:  s.StartedAt,
		FinishedAt: s.FinishedAt,
	}
}

func inspectHost(h record.Host) InspectHost {
	host := InspectHost{
		NetworkMode:    h.NetworkMode,
		PortBindings:   bindings(h.Ports),
		AutoRemove:     h.AutoRemove,
		ReadonlyRootfs: h.ReadonlyRootfs,
		ExtraHosts:     h.ExtraHosts,
		CgroupParent:   filepath.Dir(h.CgroupsPath),
	}
	for _, m := range h.Mounts {
		if m.Anonymous {
			continue
		}
		bind := or(m.Name, m.Source) + ":" + m.Destination
		if m.ReadOnly {
			bind += ":ro"
		}
		host.Binds = append(host.Binds, bind)
	}
	return host
}

func inspectConfig(r *record.Record) InspectConfig {
	c := InspectConfig{
		Hostname:    r.Config.Hostname,
		User:        r.Config.User,
		Tty:         r.Config.Tty,
		OpenStdin:   r.Config.OpenStdin,
		StdinOnce:   r.Config.StdinOnce,
		Env:         r.Config.Env,
		Cmd:         r.Config.Cmd,
		Image:       r.Image.Name,
		WorkingDir:  r.Config.WorkingDir,
		Entrypoint:  r.Config.Entrypoint,
		Labels:      r.Config.Labels,
		StopSignal:  r.Config.StopSignal,
		StopTimeout: r.Config.StopTimeout,
	}
	for _, p := range r.Config.ExposedPorts {
		set(&c.ExposedPorts, p)
	}
	for _, m := range r.Host.Mounts {
		if m.Anonymous {
			set(&c.Volumes, m.Destination)
		}
	}
	if c.Labels == nil {
		c.Labels = map[string]string{}
	}
	return c
}

func set(m *map[string]struct{}, key string) {
	if *m == nil {
		*m = map[string]struct{}{}
	}
	(*m)[key] = struct{}{}
}

// inspectNetwork also lists exposed ports that are not published, as null.
func inspectNetwork(r *record.Record) InspectNetwork {
	n := r.Network
	ports := bindings(n.Ports)
	if r.State.Status == record.Running {
		for _, p := range r.Config.ExposedPorts {
			if _, ok := ports[p]; !ok {
				ports[p] = nil
			}
		}
	}
	end := InspectEndpoint{IPAddress: n.IPAddress, IPPrefixLen: n.PrefixLen, Gateway: n.Gateway, MacAddress: n.MacAddress}
	return InspectNetwork{
		Ports: ports, IPAddress: n.IPAddress, IPPrefixLen: n.PrefixLen, Gateway: n.Gateway, MacAddress: n.MacAddress,
		Networks: map[string]InspectEndpoint{r.Host.NetworkMode: end},
	}
}

func bindings(ports []record.Port) map[string][]PortBinding {
	all := map[string][]PortBinding{}
	for _, p := range ports {
		key := fmt.Sprintf("%d/%s", p.ContainerPort, p.Proto)
		b := PortBinding{HostIP: or(p.HostIP, "0.0.0.0"), HostPort: strconv.Itoa(int(p.HostPort))}
		if p.HostPort == 0 {
			b.HostPort = ""
		}
		all[key] = append(all[key], b)
	}
	return all
}
