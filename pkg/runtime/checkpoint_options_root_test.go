package runtime

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"box/internal/testkit"
)

// answers writes a line to a terminal and returns what the container's shell says.
func answers(t *testing.T, master *os.File, word string) string {
	t.Helper()
	if _, err := master.WriteString(word + "\n"); err != nil {
		t.Fatal(err)
	}
	text, chunk := "", make([]byte, 256)
	for !strings.Contains(text, "heard "+word) {
		n, err := master.Read(chunk)
		if err != nil {
			t.Fatalf("%v after %q", err, text)
		}
		text += string(chunk[:n])
	}
	return text
}

// A container with a terminal, mounts in mounts, one whose destination leads over a link
// into a tmpfs, and hooks: its memory is written ahead, the rest with that as parent. It
// is restored into another cgroup, from a root where the mount points are missing.
func TestCheckpointWithOptions(t *testing.T) {
	b := newBench(t, "sh", "-c", "while read word; do echo heard $word; done")
	needsCriu(t)
	dir := b.bundle
	for _, d := range []string{"outer", "inner"} {
		if err := os.Mkdir(dir+"/"+d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/run", dir+"/rootfs/way"); err != nil {
		t.Fatal(err)
	}
	bind := []string{"bind"}
	b.spec.Process.Terminal = true
	b.spec.Linux.CgroupsPath = "/" + b.id + "-first"
	b.spec.Mounts = append(b.spec.Mounts,
		specs.Mount{Destination: "/run", Type: "tmpfs", Source: "tmpfs"},
		specs.Mount{Destination: "/way/secret", Type: "bind", Source: "inner", Options: bind},
		specs.Mount{Destination: "/outer", Type: "bind", Source: "outer", Options: bind},
		specs.Mount{Destination: "/outer/nested/inner", Type: "bind", Source: "inner", Options: bind},
	)
	b.spec.Hooks = &specs.Hooks{
		CreateRuntime: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "cat >> " + dir + "/created; readlink /proc/self/ns/mnt >> " + dir + "/created"}, Env: []string{"PATH=/bin:/usr/bin"}}},
		Poststop:      []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "echo over >> " + dir + "/stopped"}}},
	}
	b.save()
	answers(t, b.atTerminal("run", "--detach", b.id), "one")
	b.do("checkpoint", "--pre-dump", "--image-path", dir+"/before", b.id)
	b.expectStatus(Running)
	b.do("checkpoint", "--parent-path", "../before", "--image-path", dir+"/images", "--manage-cgroups-mode", "ignore", "--file-locks", b.id)
	if _, err := os.Stat(dir + "/images/parent/pagemap-1.img"); err != nil {
		t.Errorf("the images have no parent: %v", err)
	}
	b.nothingLeft()

	for _, d := range []string{"/outer/nested", "/rootfs/outer"} {
		if err := os.RemoveAll(dir + d); err != nil {
			t.Fatal(err)
		}
	}
	b.spec.Linux.CgroupsPath = "/" + b.id + "-second"
	b.save()
	master := b.atTerminal("restore", "--detach", "--image-path", dir+"/images", "--manage-cgroups-mode", "ignore", "--file-locks", "--pid-file", dir+"/pid", b.id)
	answers(t, master, "two")
	st := b.expectStatus(Running)
	pid := strconv.Itoa(st.Pid)
	if groups := testkit.Text(t, "/proc/"+pid+"/cgroup"); !strings.Contains(groups, "/"+b.id+"-second\n") {
		t.Errorf("restored into %s", groups)
	}
	for _, at := range []string{" /outer/nested/inner ", " /run/secret "} {
		if mounts := testkit.Text(t, "/proc/"+pid+"/mountinfo"); !strings.Contains(mounts, at) {
			t.Errorf("%s is not mounted: %s", at, mounts)
		}
	}
	if states := testkit.Text(t, dir+"/created"); strings.Count(states, `"ociVersion"`) != 2 || !strings.Contains(states, `"pid":`+pid) {
		t.Errorf("the hook for new namespaces has seen %s", states)
	}
	if states, here := testkit.Text(t, dir+"/created"), link(t, os.Getpid(), "mnt"); strings.Count(states, here) != 2 {
		t.Errorf("the hook ran in the mount namespaces %s, not in %s", states, here)
	}
	b.do("delete", "--force", b.id)
	if stopped := testkit.Text(t, dir+"/stopped"); stopped != "over\nover\n" {
		t.Errorf("the hook for the end has written %q", stopped)
	}
}

// A container moves while its memory stays behind: the checkpoint serves pages, and says
// so on a descriptor; a copy goes on and fetches them when it needs them; when it has
// all, the first one is deleted.
func TestCheckpointWithLazyPages(t *testing.T) {
	b := newBench(t, "sh", "-c", "i=0; while :; do i=$((i+1)); echo $i > /tmp/n; sleep 0.1; done")
	needsCriu(t)
	b.save()
	b.nulls("run", "--detach", b.id)
	b.counts(0)
	images, port, copied := b.bundle+"/images", testkit.FreePort(t), b.id+"-copy"
	ready, tell, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	serve := b.command("checkpoint", "--lazy-pages", "--page-server", "127.0.0.1:"+port, "--status-fd", "3",
		"--manage-cgroups-mode", "ignore", "--image-path", images, b.id)
	var messages strings.Builder
	serve.ExtraFiles, serve.Stderr = []*os.File{tell}, &messages
	if err := errors.Join(serve.Start(), tell.Close()); err != nil {
		t.Fatal(err)
	}
	defer b.try("delete", "--force", b.id) // if it is not gone as it should be
	if said, err := io.ReadAll(ready); err != nil || string(said) != "\x00" {
		_ = serve.Wait()
		t.Fatalf("on --status-fd: %q, %v; %s", said, err, messages.String())
	}
	stopped := b.counter()
	fetch := exec.Command("criu", "lazy-pages", "--page-server", "--address", "127.0.0.1", "--port", port, "-D", images)
	if err := fetch.Start(); err != nil {
		t.Fatal(err)
	}
	for range 600 { // criu does not say when it listens
		if _, err := os.Stat(images + "/lazy-pages.socket"); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	b.nulls("restore", "--detach", "--lazy-pages", "--manage-cgroups-mode", "ignore", "--image-path", images, "--work-path", images, copied)
	defer b.do("delete", "--force", copied)
	b.counts(stopped)
	if err := errors.Join(fetch.Wait(), serve.Wait()); err != nil {
		t.Error(err)
	}
	if st := b.state(); st != nil {
		t.Errorf("after the last page: %+v", st)
	}
}
