package engines

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// cniConfig is a network as a cluster's nodes have one: a bridge, addresses, ports of the
// node. It is in the island's network namespace, as are its firewall rules.
const cniConfig = `{"cniVersion": "0.4.0", "name": "pods", "plugins": [
	{"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
	 "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.198.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
	{"type": "portmap", "capabilities": {"portMappings": true}}]}`

// podNetwork asks for a network namespace of the pod's own.
const podNetwork = 0

// inPod are the namespaces of a container that shares its pod's network.
var inPod = object{"network": podNetwork, "pid": 1}

// newCNI writes the configuration of a network and returns what containerd is told of it.
func newCNI(t *testing.T) (config string) {
	t.Helper()
	const plugins = "/usr/lib/cni"
	if !exists(plugins + "/bridge") {
		t.Skip("needs the CNI plugins: run scripts/test-deps.sh")
	}
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/10-pods.conflist", []byte(cniConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", "cni0").Run() })
	return fmt.Sprintf("  [plugins.\"io.containerd.grpc.v1.cri\".cni]\n    bin_dir = %q\n    conf_dir = %q\n", plugins, dir)
}

// networkPod is a pod with a network of its own and a port of the node.
func (c *cri) networkPod(name string, port int) string {
	c.t.Helper()
	return c.do("runp", c.write("pod-"+name, object{
		"metadata":      object{"name": name, "namespace": "default", "uid": name, "attempt": 1},
		"hostname":      name + "-host",
		"log_directory": c.dir,
		"dns_config":    object{"servers": []string{"192.0.2.53"}, "searches": []string{"cluster.test"}},
		"port_mappings": []object{{"container_port": 80, "host_port": port}},
		"linux": object{
			"security_context": object{"namespace_options": inPod}, "cgroup_parent": c.parent(),
			"sysctls": object{"net.ipv4.ip_unprivileged_port_start": "7", "kernel.shmmni": "77"},
		},
	}))
}

// serving is a command that serves a page.
func serving(page string) string {
	return "mkdir -p /tmp/www; echo " + page + " >/tmp/www/index.html; exec httpd -f -p 80 -h /tmp/www"
}

func TestCRINetwork(t *testing.T) {
	eachRuntime(t, func(t *testing.T, rt runtimeUnderTest) {
		c := newCRI(t, rt, newCNI(t))
		pod := c.networkPod("net", 18081)
		within := object{"linux": object{"security_context": object{"namespace_options": inPod}}}
		server := c.start(pod, "server", serving("of the pod"), within)
		other := c.start(pod, "other", idle, within)

		c.says("net-host", "exec", "--sync", other, "hostname")
		c.says("7\n77", "exec", "--sync", other, "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start", "/proc/sys/kernel/shmmni")
		c.says("search cluster.test\nnameserver 192.0.2.53", "exec", "--sync", other, "cat", "/etc/resolv.conf")
		eventually(t, "one container reaches the other", func() bool {
			return strings.Contains(c.try("exec", "--sync", other, "wget", "-qO-", "http://127.0.0.1/").stdout, "of the pod")
		})
		for kind, shared := range map[string]bool{"net": true, "ipc": true, "uts": true, "pid": false, "mnt": false} {
			same := c.do("exec", "--sync", server, "readlink", "/proc/self/ns/"+kind) == c.do("exec", "--sync", other, "readlink", "/proc/self/ns/"+kind)
			if same != shared {
				t.Errorf("%s namespace: the same is %v, want %v", kind, same, shared)
			}
		}
		address := c.do("inspectp", "-o", "go-template", "--template", "{{.status.network.ip}}", pod)
		if got := fetch("http://" + address + "/"); got != "of the pod\n" {
			t.Errorf("at the pod's address %s: %q", address, got)
		}
		// Packets of the node to its own loopback are not routed to bridges by default.
		if got := fetch("http://10.198.0.1:18081/"); got != "of the pod\n" {
			t.Errorf("at the node's port: %q", got)
		}
		c.betweenPods(pod, address)
		c.forwards(pod)
		c.do("stop", "--timeout", "0", server)
		c.says("x", "exec", "--sync", other, "echo", "x")
		c.do("stopp", pod)
		c.do("rmp", pod)
	})
}

// betweenPods: pods reach each other, under their own names and addresses.
func (c *cri) betweenPods(pod, address string) {
	c.t.Helper()
	second := c.networkPod("second", 18082)
	id := c.start(second, "client", idle, object{"linux": object{"security_context": object{"namespace_options": inPod}}})
	c.says("of the pod", "exec", "--sync", id, "wget", "-qO-", "http://"+address+"/")
	c.says("second-host", "exec", "--sync", id, "hostname")
	c.do("rmp", "-f", second)
	c.says("SANDBOX_READY", "inspectp", "-o", "go-template", "--template", "{{.status.state}}", pod)
}

// forwards: crictl port-forward, as kubectl's, reaches the pod's loopback.
func (c *cri) forwards(pod string) {
	c.t.Helper()
	full := append(c.base[:len(c.base):len(c.base)], "port-forward", pod, "18083:80")
	cmd := exec.Command(full[0], full[1:]...)
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	eventually(c.t, "the page is forwarded", func() bool { return fetch("http://127.0.0.1:18083/") == "of the pod\n" })
}
