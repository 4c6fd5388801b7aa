package vm

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"time"
)

// Mode says as whom the command runs in the guest.
type Mode string

// The modes.
const (
	// Root runs the command as root below an init that only reaps.
	Root Mode = "root"
	// User runs it as uid 1000 with subordinate ids and a delegated cgroup.
	User Mode = "user"
	// Systemd runs it as a unit with Delegate=yes, with systemd as PID 1 and
	// D-Bus up.
	Systemd Mode = "systemd"
	// SystemdUser runs it as a unit with Delegate=yes of the user's own systemd.
	SystemdUser Mode = "systemd-user"
)

// HasSystemd tells whether systemd is PID 1.
func (m Mode) HasSystemd() bool { return m == Systemd || m == SystemdUser }

// Unprivileged tells whether the command runs as uid 1000.
func (m Mode) Unprivileged() bool { return m == User || m == SystemdUser }

// Config says what a machine looks like. The zero value is a machine for root
// with two processors and one gibibyte.
type Config struct {
	// Program is the binary of test/vm: static, it becomes the guest's init. Empty:
	// the running program, which must be it.
	Program string
	// Mode is as whom the command runs; empty means Root.
	Mode Mode
	// Writable are absolute directories of the host that the guest may write to.
	// Everything else that it writes ends with it.
	Writable []string
	// Env is the environment of the command beside PATH, HOME, USER and TMPDIR.
	Env []string
	// Dir is the working directory; empty means /.
	Dir string
	// Timeout ends the machine; zero means two minutes, and four with systemd.
	Timeout time.Duration
	// CPUs and Memory (MiB) are the size; zero means 2 and 1024.
	CPUs, Memory int
	// KernelArgs are added to the kernel's command line.
	KernelArgs []string
	// Stdin, Stdout and Stderr are the command's; nil is empty input, or drops
	// the output.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Console, if it is not nil, gets the kernel's console when the machine ends.
	Console io.Writer
}

// fill puts the defaults in.
func (c Config) fill() Config {
	if c.Mode == "" {
		c.Mode = Root
	}
	if c.Dir == "" {
		c.Dir = "/"
	}
	if c.Timeout == 0 {
		c.Timeout = 2 * time.Minute
		if c.Mode.HasSystemd() {
			c.Timeout *= 2
		}
	}
	if c.CPUs == 0 {
		c.CPUs = 2
	}
	if c.Memory == 0 {
		c.Memory = 1024
	}
	if c.Stdout == nil {
		c.Stdout = io.Discard
	}
	if c.Stderr == nil {
		c.Stderr = io.Discard
	}
	return c
}

// check refuses what no machine can be made of.
func (c Config) check(argv []string) error {
	switch c.Mode {
	case Root, User, Systemd, SystemdUser:
	default:
		return fmt.Errorf("mode %q: want root, user, systemd or systemd-user", c.Mode)
	}
	for _, dir := range append([]string{c.Dir}, c.Writable...) {
		if !filepath.IsAbs(dir) {
			return fmt.Errorf("directory %q: not absolute", dir)
		}
	}
	if len(argv) == 0 {
		return fmt.Errorf("no command")
	}
	return nil
}

// InsideVariable is set to 1 in the environment of every command in a machine.
const InsideVariable = "BOX_TEST_VM"

// JobFile is where the guest finds its job, in its initial file system.
const JobFile = "/job.json"

// Job is what the host tells the guest.
type Job struct {
	Mode     Mode
	Args     []string
	Env      []string
	Dir      string
	Writable []string
	// Modules are the files to load before the root is there, in this order,
	// below /modules of the initial file system.
	Modules []string
	// ModulesDir is the host's directory that shall be /lib/modules.
	ModulesDir string
}

// encode writes the job for JobFile.
func (j Job) encode() ([]byte, error) { return json.MarshalIndent(j, "", "\t") }
