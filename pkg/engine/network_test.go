package engine

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"box/internal/errdefs"
	"box/pkg/network"
	"box/pkg/record"
)

// server is a container that serves a page on port 80.
func (f *fixture) server(publish ...string) *record.Record {
	f.t.Helper()
	o := f.sh("mkdir /www; hostname > /www/index.html; echo ready; httpd -f -p 80 -h /www")
	o.Network, o.Publish = NetworkBridge, publish
	r := f.detached(o)
	f.awaitServing(r.ID)
	return r
}

// awaitServing waits in the container until its port is open.
func (f *fixture) awaitServing(id string) {
	f.t.Helper()
	code, err := f.Exec(f.t.Context(), id, ExecOptions{Args: []string{"sh", "-c", "until wget -q -O /dev/null http://127.0.0.1/; do usleep 10000; done 2>/dev/null"}})
	if code != 0 || err != nil {
		f.t.Fatalf("wait for the server: %d %v", code, err)
	}
}

func fetch(url string) (string, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	return strings.TrimSpace(string(data)), err
}

func TestPublishedPorts(t *testing.T) {
	f := newFixture(t)
	r := f.server("80", "127.0.0.1:8099:80")
	got, err := f.Find(t.Context(), r.ID)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Network.Ports) != 2 || got.Network.Ports[0].HostPort == 0 || got.Network.IPAddress == "" || got.Network.Gateway == "" {
		t.Fatalf("network: %+v", got.Network)
	}
	for _, url := range []string{
		fmt.Sprintf("http://127.0.0.1:%d/", got.Network.Ports[0].HostPort),
		"http://127.0.0.1:8099/",
		"http://" + got.Network.IPAddress + "/",
		fmt.Sprintf("http://%s:%d/", got.Network.Gateway, got.Network.Ports[0].HostPort),
	} {
		if page, err := fetch(url); err != nil || page != r.ID[:12] {
			t.Errorf("%s: %q %v", url, page, err)
		}
	}
	out := f.output()
	if _, err := f.Exec(t.Context(), r.ID, ExecOptions{Args: []string{"grep", r.ID[:12], "/etc/hosts"}, Stdout: out.file}); err != nil {
		t.Error(err)
	}
	if line := out.text(); !strings.HasPrefix(line, got.Network.IPAddress) {
		t.Errorf("own line in /etc/hosts: %q", line)
	}
	// A second container reaches the first, and the port on the host (hairpin).
	o := f.sh(fmt.Sprintf("wget -qO- http://%s/; wget -qO- http://%s:%d/", got.Network.IPAddress, got.Network.Gateway, got.Network.Ports[0].HostPort))
	o.Network = NetworkBridge
	if _, page, errs := f.run(o); page != strings.Repeat(r.ID[:12]+"\n", 2) {
		t.Errorf("from another container: %q %q", page, errs)
	}
	if err := f.Remove(t.Context(), r.ID, RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	f.awaitEnd()
	f.checkNetworkGone()
}

func TestPortInUse(t *testing.T) {
	f := newFixture(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	o := f.sh("true")
	o.Network, o.Publish, o.AutoRemove = NetworkBridge, []string{fmt.Sprintf("%d:80", port)}, true
	_, _, err = f.Run(t.Context(), o, Stdio{})
	var start *record.StartError
	if !errors.As(err, &start) || start.Code != 125 || !errors.Is(err, errdefs.ErrConflict) || !strings.Contains(err.Error(), fmt.Sprint(port)) {
		t.Errorf("got %v", err)
	}
	f.awaitEnd()
	f.checkNothingLeft()
	f.checkNetworkGone()
}

func TestHostNetworkSharesTheHostsNames(t *testing.T) {
	f := newFixture(t)
	o := f.sh("ls /sys/class/net; test -s /etc/hosts && echo hosts")
	o.Network = NetworkHost
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			_ = c.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	o.Cmd[2] += "; nc 127.0.0.1 " + port + " </dev/null && echo reached"
	if _, out, errs := f.run(o); out != "lo\nhosts\nreached\n" {
		t.Errorf("got %q %q", out, errs)
	}
}

// A lease belongs to whoever holds the lock of its id, which for the steps of a
// build is no container.
func TestSweepLeavesTheNetworkOfBuilds(t *testing.T) {
	f := newFixture(t)
	const step = "build-00000123456789ab"
	lock, err := f.records.TryLock(step)
	if err != nil {
		t.Fatal(err)
	}
	networks, err := f.networks()
	if err != nil {
		t.Fatal(err)
	}
	ns, err := network.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if _, err := networks.Attach(t.Context(), ns, network.Endpoint{ContainerID: step, Hostname: "step"}); err != nil {
		t.Fatal(err)
	}
	links := func() int {
		data, err := os.ReadFile("/proc/net/dev") // sysfs shows another namespace's
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(data), "\n")
	}
	before := links()
	if _, err := f.List(t.Context(), true); err != nil {
		t.Error(err)
	}
	if now := links(); now != before {
		t.Errorf("%d links during a build, %d after a sweep", before, now)
	}
	if err := errors.Join(lock.Unlock(), f.Sweep(t.Context())); err != nil {
		t.Error(err)
	}
	f.checkNetworkGone()
}

// A stopped container keeps its ports' numbers if they were chosen, and may get
// others if they were not; in between they are free for others.
func TestRestartWithPublishedPorts(t *testing.T) {
	f := newFixture(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	chosen := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	r := f.server(fmt.Sprintf("%d:80", chosen), "0:80")
	now := 0 * time.Second
	for range 2 {
		if err := f.Stop(t.Context(), r.ID, &now); err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", fmt.Sprintf("0.0.0.0:%d", chosen))
		if err != nil {
			t.Fatalf("the port of a stopped container: %v", err)
		}
		_, _, err = f.Start(t.Context(), r.ID, Stdio{})
		if !errors.Is(err, errdefs.ErrConflict) || !strings.Contains(err.Error(), fmt.Sprint(chosen)) {
			t.Errorf("start while the port is in use: %v", err)
		}
		_ = l.Close()
		_, s, err := f.Start(t.Context(), r.ID, Stdio{})
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
		f.awaitServing(r.ID)
		got, err := f.Find(t.Context(), r.ID)
		if err != nil || len(got.Network.Ports) != 2 || got.Network.Ports[1].HostPort == 0 {
			t.Fatalf("%+v %v", got.Network, err)
		}
		for _, p := range got.Network.Ports {
			if page, err := fetch(fmt.Sprintf("http://127.0.0.1:%d/", p.HostPort)); err != nil || page != r.ID[:12] {
				t.Errorf("port %d: %q %v", p.HostPort, page, err)
			}
		}
	}
}

func TestParallelContainersWithEphemeralPorts(t *testing.T) {
	f := newFixture(t)
	const n = 20
	o := f.sh("true")
	o.Network, o.Publish, o.AutoRemove = NetworkBridge, []string{"0:80"}, true
	results := make(chan error, n)
	for range n {
		go func() {
			_, s, err := f.Run(t.Context(), o, Stdio{})
			if err == nil {
				_, err = s.Wait(t.Context())
			}
			results <- err
		}()
	}
	for range n {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	f.awaitEnd()
	f.checkNothingLeft()
	f.checkNetworkGone()
}
