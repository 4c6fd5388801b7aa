package record

import (
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
)

// Status is where a container is in its life, in Docker's words.
type Status string

// The statuses. A container whose record says Running while its lock is free
// has lost its monitor; see Store.
const (
	Created  Status = "created"  // made, never started, or its start failed
	Running  Status = "running"  // its command has been started
	Exited   Status = "exited"   // its command is over
	Removing Status = "removing" // being removed; whoever finds it unlocked finishes that
	Dead     Status = "dead"     // its record cannot be read; it can only be removed
)

// Record is everything that is stored of one container.
type Record struct {
	ID      string    `json:"id"`   // 64 lower-case hex digits
	Name    string    `json:"name"` // unique, without a slash
	Created time.Time `json:"created"`
	Image   Image     `json:"image"`
	Runtime Runtime   `json:"runtime"`
	Config  Config    `json:"config"`
	Host    Host      `json:"host"`
	State   State     `json:"state"`
	Network Network   `json:"network"` // as attached; empty unless running
}

// Image is what the container was made from.
type Image struct {
	ID      digest.Digest `json:"id"`    // digest of the image config
	Name    string        `json:"name"`  // as the user wrote it
	ChainID digest.Digest `json:"chain"` // snapshot beneath the container's own layer; empty for an image without layers
}

// Runtime is the program that runs the container; fixed at create, since only
// the program that made a container can find it again.
type Runtime struct {
	Path string `json:"path"`
	Root string `json:"root"`
}

// Config is what belongs to the container itself.
type Config struct {
	Hostname     string            `json:"hostname"`
	User         string            `json:"user,omitempty"` // as given: name or number, with or without group
	Env          []string          `json:"env,omitempty"`  // the final environment
	Entrypoint   []string          `json:"entrypoint,omitempty"`
	Cmd          []string          `json:"cmd,omitempty"`
	WorkingDir   string            `json:"workingDir,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
	ExposedPorts []string          `json:"exposedPorts,omitempty"` // "80/tcp"
	StopSignal   string            `json:"stopSignal,omitempty"`   // name or number; empty for SIGTERM
	StopTimeout  int               `json:"stopTimeout"`            // seconds before SIGKILL, -1 for ever
	Tty          bool              `json:"tty,omitempty"`
	OpenStdin    bool              `json:"openStdin,omitempty"`
	StdinOnce    bool              `json:"stdinOnce,omitempty"` // stdin ends with the client that was attached at start
}

// Args is the command line: entrypoint and command together.
func (c Config) Args() []string {
	return append(append([]string(nil), c.Entrypoint...), c.Cmd...)
}

// Host is what ties the container to the host.
type Host struct {
	NetworkMode    string   `json:"networkMode"` // none, host or bridge
	Ports          []Port   `json:"ports,omitempty"`
	Mounts         []Mount  `json:"mounts,omitempty"`
	ExtraHosts     []string `json:"extraHosts,omitempty"` // "name:address"
	AutoRemove     bool     `json:"autoRemove,omitempty"`
	ReadonlyRootfs bool     `json:"readonlyRootfs,omitempty"`
	CgroupsPath    string   `json:"cgroupsPath"`
}

// Port publishes a port of the container on the host.
type Port struct {
	HostIP        string `json:"hostIP,omitempty"`      // empty for every address
	HostPort      uint16 `json:"hostPort"`              // 0 for one that the kernel chooses at start
	HostPortEnd   uint16 `json:"hostPortEnd,omitempty"` // if not 0, the first free one from HostPort to here
	ContainerPort uint16 `json:"containerPort"`
	Proto         string `json:"proto"` // tcp, udp
}

// Mount is a volume or a host path that the user or the image asked for.
type Mount struct {
	Type        string `json:"type"`           // bind or volume
	Name        string `json:"name,omitempty"` // of the volume
	Source      string `json:"source"`         // path on the host
	Destination string `json:"destination"`
	ReadOnly    bool   `json:"readOnly,omitempty"`
	Propagation string `json:"propagation,omitempty"` // of a bind mount; empty for rprivate
	Anonymous   bool   `json:"anonymous,omitempty"`   // removed together with an auto-removed container
}

// State is what changes while the container lives.
type State struct {
	Status     Status    `json:"status"`
	Pid        int       `json:"pid,omitempty"` // of the first process, seen from the host; 0 unless running
	ExitCode   int       `json:"exitCode"`      // 128+n for signal n
	Error      string    `json:"error,omitempty"`
	OOMKilled  bool      `json:"oomKilled,omitempty"`
	StartedAt  time.Time `json:"startedAt"`
	FinishedAt time.Time `json:"finishedAt"`
}

// Network is how a running container is attached.
type Network struct {
	IPAddress  string `json:"ipAddress,omitempty"`
	PrefixLen  int    `json:"prefixLen,omitempty"`
	Gateway    string `json:"gateway,omitempty"`
	MacAddress string `json:"macAddress,omitempty"`
	Ports      []Port `json:"ports,omitempty"` // with the host ports that were really taken
}

// The files of a container in ROOT/containers/<id>.
const (
	ConfigFile   = "config.json"
	RootfsDir    = "rootfs"
	LogFile      = "container.log"
	HostsFile    = "hosts"
	ResolvFile   = "resolv.conf"
	HostnameFile = "hostname"
	recordFile   = "record.json"
)

// NetnsPath is where the monitor mounts the container's network namespace, in
// its own mount namespace only.
func NetnsPath(runDir string) string { return filepath.Join(runDir, "netns") }

// MarkExited ends a running container in the record.
func (r *Record) MarkExited(code int, at time.Time) {
	r.State.Status = Exited
	r.State.Pid = 0
	r.State.ExitCode = code
	r.State.FinishedAt = at
	r.Network = Network{}
}
