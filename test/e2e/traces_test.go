package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// traces lists what there is of the host's containers in the kernel and on
// disk, one line each. It looks for what belongs to this host's directories
// alone, so that it works beside other users of box on the same machine.
func (h *host) traces() []string {
	h.t.Helper()
	h.note()
	var all []string
	all = append(all, h.mounts()...)
	all = append(all, h.network()...)
	all = append(all, h.processes()...)
	all = append(all, h.groups()...)
	return append(all, h.files()...)
}

// mounts are those below the host's directory, in this mount namespace.
func (h *host) mounts() []string {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		h.t.Fatal(err)
	}
	var all []string
	for line := range strings.Lines(string(data)) {
		if target := strings.Fields(line)[4]; strings.HasPrefix(target, h.dir+"/") {
			all = append(all, "mount "+target)
		}
	}
	return all
}

// noteBridge remembers which bridge the host's containers have; its name is
// forgotten on disk when it goes.
func (h *host) noteBridge() {
	data, err := os.ReadFile(filepath.Join(h.runRoot, "network", "state.json"))
	if err != nil {
		return
	}
	var state struct{ Bridge string }
	if json.Unmarshal(data, &state) == nil && state.Bridge != "" && !slices.Contains(h.bridges, state.Bridge) {
		h.bridges = append(h.bridges, state.Bridge)
	}
}

// network are the state file, which stands for all that the network room has
// in the kernel, and what is called like a bridge that was ours.
func (h *host) network() []string {
	var all []string
	if _, err := os.Stat(filepath.Join(h.runRoot, "network", "state.json")); err == nil {
		all = append(all, "network state")
	}
	for _, bridge := range h.bridges {
		if _, err := net.InterfaceByName(bridge); err == nil {
			all = append(all, "network device "+bridge)
		}
		if out, err := exec.Command("nft", "list", "table", "inet", bridge).Output(); err == nil {
			all = append(all, "nftables table "+string(out))
		}
	}
	return all
}

// processes are those that name the host's directory: monitors, runtimes,
// box itself.
func (h *host) processes() []string {
	var all []string
	for pid, cmdline := range commandLines(h.t) {
		if strings.Contains(cmdline, h.dir+"/") {
			all = append(all, fmt.Sprintf("process %s: %s", pid, cmdline))
		}
	}
	slices.Sort(all)
	return all
}

func commandLines(t *testing.T) map[string]string {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, dir := range dirs {
		if data, err := os.ReadFile(filepath.Join(dir, "cmdline")); err == nil { // else it is gone
			all[filepath.Base(dir)] = strings.ReplaceAll(string(data), "\x00", " ")
		}
	}
	return all
}

// groups are the cgroups of containers and build steps that this host has had.
func (h *host) groups() []string {
	var all []string
	for id := range h.ids {
		for _, base := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
			found, err := filepath.Glob(filepath.Join(base, "box-"+id))
			if err != nil {
				h.t.Fatal(err)
			}
			for _, dir := range found {
				all = append(all, "cgroup "+dir)
			}
		}
	}
	slices.Sort(all)
	return all
}

// noteIDs remembers the containers that there are at this moment.
func (h *host) noteIDs() {
	for _, root := range []string{h.root, h.runRoot} {
		found, err := filepath.Glob(filepath.Join(root, "containers", "[0-9a-f]*"))
		if err != nil {
			h.t.Fatal(err)
		}
		for _, dir := range found {
			h.ids[filepath.Base(dir)] = true
		}
	}
}

// note remembers what is known of the containers while they are there.
func (h *host) note() {
	h.noteBridge()
	h.noteIDs()
}

// files are those that only a living container has.
func (h *host) files() []string {
	var all []string
	for _, pattern := range []string{
		filepath.Join(h.runRoot, "containers", "*"), filepath.Join(h.runRoot, "runtime", "*"),
		filepath.Join(h.root, "containers", "[0-9a-f]*"), filepath.Join(h.root, "containers", ".names", "*"),
		filepath.Join(h.root, "snapshots", "active", "*"), filepath.Join(h.root, "snapshots", "stage", "*"),
		filepath.Join(h.root, "image", "ingest", "*"),
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			h.t.Fatal(err)
		}
		for _, f := range found {
			all = append(all, "file "+f)
		}
	}
	return all
}
