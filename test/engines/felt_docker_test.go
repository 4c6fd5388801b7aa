package engines

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// feltDocker is dockerd or podman.
type feltDocker struct {
	client
	look  func(name string) figures
	flags []string // of run
}

func (e feltDocker) start(name, script string, l limits) {
	args := append([]string{"run", "-d", "--name", name, "--network", "none"}, e.flags...)
	args = append(args, memoryFlags(l)...)
	if l.cpus > 0 {
		args = append(args, "--cpus", fmt.Sprint(l.cpus))
	}
	if l.processes > 0 {
		args = append(args, "--pids-limit", fmt.Sprint(l.processes))
	}
	e.apart(name).do(append(args, imageRef, "sh", "-c", script)...)
	if l.cpus > 0 {
		inScope(e.t, e.pid(name))
	}
}

func memoryFlags(l limits) []string {
	return []string{"--memory", fmt.Sprint(l.memory), "--memory-swap", fmt.Sprint(l.memory)}
}

func (e feltDocker) exec(name, script string) result { return e.try("exec", name, "sh", "-c", script) }

func (e feltDocker) update(name string, l limits) bool {
	e.do(append(append([]string{"update", "--cpus", fmt.Sprint(l.cpus)}, memoryFlags(l)...), name)...)
	return true
}

func (e feltDocker) figures(name string) figures { return e.look(name) }
func (e feltDocker) pause(name string)           { e.do("pause", name) }
func (e feltDocker) resume(name string)          { e.do("unpause", name) }
func (e feltDocker) pid(name string) string      { return e.inspect(name, ".State.Pid") }
func (e feltDocker) remove(name string)          { e.do("rm", "-f", name) }

func (e feltDocker) stop(name string) string {
	e.do("stop", "-t", "100", name)
	return e.inspect(name, ".State.ExitCode")
}

func TestFeltDocker(t *testing.T) {
	requireAll(t)
	eachRuntime(t, func(t *testing.T, rt runtimeUnderTest) {
		d := newDocker(t, rt, "--exec-opt", "native.cgroupdriver="+driver())
		testFelt(t, feltDocker{client: d.client, look: d.figures})
	})
}

// figures asks the daemon itself: its command line rounds.
func (d *dockerd) figures(name string) figures {
	d.t.Helper()
	socket := http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", d.run+"/sock")
		},
	}}
	answer, err := socket.Get("http://docker/containers/" + name + "/stats?stream=false&one-shot=true")
	if err != nil {
		d.t.Fatal(err)
	}
	defer answer.Body.Close()
	var said struct {
		CPU struct {
			Usage struct {
				Total int64 `json:"total_usage"`
			} `json:"cpu_usage"`
		} `json:"cpu_stats"`
		Memory struct{ Usage int64 }   `json:"memory_stats"`
		Pids   struct{ Current int64 } `json:"pids_stats"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&said); err != nil {
		d.t.Fatal(err)
	}
	return figures{said.Memory.Usage, time.Duration(said.CPU.Usage.Total), said.Pids.Current}
}

func TestFeltPodman(t *testing.T) {
	requireAll(t)
	eachRuntime(t, func(t *testing.T, rt runtimeUnderTest) {
		p := newPodman(t, rt)
		testFelt(t, feltDocker{client: p, look: p.podmanFigures})
	})
}

// podmanFigures reads the raw fields that podman keeps below those for people.
func (c client) podmanFigures(name string) figures {
	c.t.Helper()
	text := c.do("stats", "--no-stream", "--format", "{{.ContainerStats.CPUNano}} {{.ContainerStats.MemUsage}} {{.ContainerStats.PIDs}}", name)
	fields := strings.Fields(text)
	if len(fields) != 3 {
		c.t.Fatalf("stats: %q", text)
	}
	var n [3]int64
	for i := range n {
		var err error
		if n[i], err = strconv.ParseInt(fields[i], 10, 64); err != nil {
			c.t.Fatal(err)
		}
	}
	return figures{memory: n[1], cpu: time.Duration(n[0]), processes: n[2]}
}

// TestFeltRootless is podman as a user, with systemd's help: the groups that a user may have
// are below the user's own manager.
func TestFeltRootless(t *testing.T) {
	if os.Geteuid() == 0 || driver() != "systemd" {
		t.Skip("needs a user with a systemd of its own: make engines-vm")
	}
	for _, name := range runtimesUnderTest() {
		t.Run(name, func(t *testing.T) {
			p := newPodman(t, findRuntime(t, name))
			testFelt(t, feltDocker{client: p, look: p.podmanFigures})
			p.prints("0 1000 1 1 100000 65536", "run", "--rm", "--network", "none", imageRef, "sh", "-c", "echo $(cat /proc/self/uid_map)")
			p.prints("1000", "run", "--rm", "--network", "none", "--userns", "keep-id", imageRef, "id", "-u")
		})
	}
}
