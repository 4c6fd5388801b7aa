package engines

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// engineState is what an engine itself keeps between two containers.
type engineState struct {
	processes []string // names of its daemons
	mounts    []string // its own mount points
}

// engineGroups are the groups that engines make once and keep, below the island's.
var engineGroups = []string{"init", "docker", "docker/buildkit", "docker/parent", "libpod_parent", "libpod_parent/conmon", "engines", "k8s.io"}

// nothingLeft checks that the containers, all of them removed, have left no process,
// mount or cgroup: on the island everything is visible, and nobody else is there.
func nothingLeft(t *testing.T, own engineState) {
	t.Helper()
	var left []string
	look := func() bool {
		left = append(append(processesLeft(own.processes), mountsLeft(own.mounts)...), cgroupsLeft()...)
		return len(left) == 0
	}
	for range 200 { // monitors end a moment after their answer
		if look() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	for _, what := range left {
		t.Errorf("left behind: %s", what)
	}
}

// processesLeft are all but process 1, the tests and the engine. Where systemd is, there
// are many others, and a container's keep its scope alive.
func processesLeft(own []string) (left []string) {
	if driver() == "systemd" {
		return nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return []string{err.Error()}
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == 1 || pid == os.Getpid() {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		args := strings.Split(string(line), "\x00")
		if err != nil || len(line) == 0 || slices.Contains(own, filepath.Base(args[0])) {
			continue // gone, a zombie that process 1 will collect, or the engine's
		}
		left = append(left, fmt.Sprintf("process %d: %s", pid, strings.Join(args, " ")))
	}
	return left
}

// mountsLeft are root file systems of containers and what is mounted in them, network
// namespaces, and shm directories.
func mountsLeft(own []string) (left []string) {
	for _, place := range mountPoints() {
		if !slices.Contains(own, place) && strings.HasPrefix(place, os.Getenv(dirVar)+"/") {
			left = append(left, "mount "+place)
		}
	}
	return left
}

func mountPoints() (places []string) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return []string{err.Error()}
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 4 {
			places = append(places, fields[4])
		}
	}
	return places
}

// cgroupsLeft are the groups of containers.
func cgroupsLeft() (left []string) {
	for _, h := range hierarchies() {
		_ = filepath.WalkDir(h, func(path string, e os.DirEntry, err error) error {
			switch name, _ := filepath.Rel(h, path); {
			case err != nil || !e.IsDir() || path == h || slices.Contains(engineGroups, name):
			case driver() == "systemd" && !containerScope(name):
			default:
				left = append(left, "cgroup "+path)
			}
			return nil
		})
	}
	return left
}

// containerScope tells whether a group is one that an engine has asked systemd for.
func containerScope(name string) bool {
	engine, _, _ := strings.Cut(filepath.Base(name), "-")
	return strings.HasSuffix(name, ".scope") && slices.Contains([]string{"docker", "libpod", "ctr", "cri"}, engine)
}

// unmountBelow takes an engine's own mounts away, so that its directory can go.
func unmountBelow(dir string) {
	for _, place := range mountPoints() {
		if strings.HasPrefix(place, dir+"/") {
			_ = unix.Unmount(place, unix.MNT_DETACH)
		}
	}
}
