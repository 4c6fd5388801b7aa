package engines

import (
	"os"
	"path/filepath"
	"strings"
)

// kubePod is a pod as people write them: two containers that share a network and a volume,
// with what the fields of Kubernetes ask of a runtime.
const kubePod = `apiVersion: v1
kind: Pod
metadata:
  name: kube
spec:
  hostname: kubehost
  shareProcessNamespace: true
  volumes:
  - {name: scratch, emptyDir: {}}
  - {name: data, hostPath: {path: DIR/shared, type: Directory}}
  containers:
  - name: web
    image: IMAGE
    imagePullPolicy: Never
    command: [sh, -c, 'mkdir -p /scratch/www; echo of kube >/scratch/www/index.html; exec httpd -f -p 8080 -h /scratch/www']
    ports: [{containerPort: 8080, hostPort: 18090}]
    volumeMounts: [{name: scratch, mountPath: /scratch}]
    resources: {limits: {memory: 64Mi, cpu: 500m}}
  - name: side
    image: IMAGE
    imagePullPolicy: Never
    command: [sh, -c, "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done"]
    env: [{name: A, value: of the file}]
    workingDir: /tmp
    volumeMounts:
    - {name: scratch, mountPath: /scratch}
    - {name: data, mountPath: /data, readOnly: true}
    securityContext:
      runAsUser: 1000
      runAsGroup: 2000
      readOnlyRootFilesystem: true
      allowPrivilegeEscalation: false
      capabilities: {drop: [ALL]}
`

// testKube: podman plays a pod.
func testKube(c client, _ string) {
	dir := optionFiles(c.t)
	file := filepath.Join(c.t.TempDir(), "pod.yaml")
	text := strings.NewReplacer("DIR", dir, "IMAGE", imageRef).Replace(kubePod)
	if !unified() { // a pod's own group is forgotten in v1's hierarchies by podman 4.3
		text = strings.ReplaceAll(text, "    resources: {limits: {memory: 64Mi, cpu: 500m}}\n", "")
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { c.try("pod", "rm", "-f", "-t", "0", "kube") })
	c.do("play", "kube", "--log-driver", "k8s-file", file)
	c.prints("kubehost", "exec", "kube-side", "hostname")
	c.prints("of the file /tmp", "exec", "kube-side", "sh", "-c", "echo $A $PWD")
	c.prints("1000 2000", "exec", "kube-side", "sh", "-c", "echo $(id -u) $(id -g)")
	c.prints("CapBnd:\t0000000000000000\nNoNewPrivs:\t1", "exec", "kube-side", "grep", "-E", "CapBnd|NoNewPrivs", "/proc/self/status")
	c.prints("from outside", "exec", "kube-side", "cat", "/data/in")
	if r := c.try("exec", "kube-side", "sh", "-c", "touch /data/x; touch /etc/x"); strings.Count(r.stderr, "Read-only file system") != 2 {
		c.t.Errorf("writing where nothing may be written: %s", r)
	}
	eventually(c.t, "one container serves the other", func() bool {
		return c.try("exec", "kube-side", "wget", "-qO-", "http://127.0.0.1:8080/").stdout == "of kube\n"
	})
	c.prints("1", "exec", "kube-side", "sh", "-c", "ps | grep -c '[h]ttpd -f'")
	if got := fetch("http://127.0.0.1:18090/"); got != "of kube\n" {
		c.t.Errorf("at the host's port: %q", got)
	}
	c.do("play", "kube", "--down", file)
	removePodGroups(c)
}

// removePodGroups removes the groups of pods, which podman 4.3 forgets in v1's hierarchies.
func removePodGroups(c client) {
	c.t.Helper()
	for _, h := range hierarchies() {
		pods, _ := filepath.Glob(filepath.Join(h, "libpod_parent", strings.Repeat("[0-9a-f]", 64)))
		for _, dir := range pods {
			if err := removeTree(dir); err != nil {
				c.t.Errorf("remove a pod's group: %v", err)
			}
		}
	}
}

// testAutoUserns: podman chooses each container's users.
func testAutoUserns(c client, name string) {
	subordinateIDs(c.t)
	c.sleeper(name, "--userns", "auto:size=4096", "--tmpfs", "/t")
	c.prints("0 1000000 4096", "exec", name, "sh", "-c", "echo $(cat /proc/self/uid_map)")
	c.prints("0 0", "exec", name, "stat", "-c", "%u %g", "/bin/busybox")
	c.do("run", "-d", "--name", name+"-2", "--userns", "auto:size=4096", imageRef, "sleep", "1000")
	c.prints("0 1004096 4096", "exec", name+"-2", "sh", "-c", "echo $(cat /proc/self/uid_map)")
	c.do("rm", "-f", "-t", "0", name+"-2")
	c.prints("0 1000000 4096", "run", "--rm", "--userns", "container:"+name, imageRef, "sh", "-c", "echo $(cat /proc/self/uid_map)")
}

// testHooks: programs from podman's directory of hooks are run by the runtime, each at its
// time, with the state on standard input.
func testHooks(c client, name string) {
	dir := c.t.TempDir()
	for _, stage := range []string{"prestart", "createRuntime", "poststart", "poststop"} {
		hook := asJSON(c.t, map[string]any{
			"version": "1.0.0", "stages": []string{stage}, "when": map[string]any{"always": true},
			"hook": map[string]any{"path": "/bin/sh", "args": []string{"sh", "-c", "jq -r '.status + \" \" + .annotations.mark' >" + dir + "/" + stage}},
		})
		if err := os.WriteFile(dir+"/"+stage+".json", hook, 0o600); err != nil {
			c.t.Fatal(err)
		}
	}
	requireProgram(c.t, "jq")
	hooked := c
	hooked.base = append(c.base[:len(c.base):len(c.base)], "--hooks-dir", dir)
	hooked.do("run", "--name", name, "--annotation", "mark=here", imageRef, "true")
	hooked.do("rm", "-f", name)
	for stage, want := range map[string]string{"prestart": "creating", "createRuntime": "creating", "poststart": "running", "poststop": "stopped"} {
		var text []byte
		eventually(c.t, stage+" has run", func() bool { text, _ = os.ReadFile(dir + "/" + stage); return len(text) > 0 })
		// runc may look before the command has taken its init's place.
		if got := string(text); got != want+" here\n" && (want != "running" || got != "created here\n") {
			c.t.Errorf("%s saw %q, want %q", stage, got, want+" here\n")
		}
	}
}
