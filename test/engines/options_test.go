package engines

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// option is one way to call `run --rm`, the same in docker and podman: what the
// command inside prints must be want, what it ends with must be code.
type option struct {
	name  string
	flags []string
	cmd   string // for sh -c
	args  []string
	stdin string
	want  string // a regular expression for all of the output; none: whatever
	code  int
	only  string                        // "docker" or "podman"; none: both
	skip  func() (why string, not bool) // what a machine may not allow any runtime
}

// options is the table. DIR is replaced by a directory of the test's.
var options = []option{
	{name: "output and exit code", cmd: "echo out; echo err >&2; exit 42", want: "out\nerr\n", code: 42},
	{name: "stdin", flags: []string{"-i"}, args: []string{"wc", "-c"}, stdin: strings.Repeat("x", 1<<20), want: "1048576\n"},
	{name: "environment", flags: []string{"-e", "A=b c"}, cmd: `echo "$A"`, want: "b c\n"},
	{name: "no variables of others", cmd: "env | grep -E '_OCI|NOTIFY|BOX' || echo none", want: "none\n"},
	{name: "no files of others", args: []string{"ls", "/proc/self/fd"}, want: "0\n1\n2\n3\n"},
	{name: "entrypoint", flags: []string{"--entrypoint", "/bin/echo"}, args: []string{"a", "b"}, want: "a b\n"},
	{name: "working directory", flags: []string{"-w", "/tmp"}, cmd: "pwd", want: "/tmp\n"},
	{name: "working directory is made", flags: []string{"-w", "/new/place"}, cmd: "pwd", want: "/new/place\n", only: "docker"},
	{name: "hostname", flags: []string{"--hostname", "thisbox"}, cmd: "hostname; echo $(cat /etc/hostname)", want: "thisbox\nthisbox\n"},
	{name: "process 1", cmd: "echo $$; readlink /proc/self/exe", want: "1\n/bin/busybox\n"},

	{name: "user by name", flags: []string{"--user", "app"}, cmd: "id -u; id -g; id -G", want: "1000\n1000\n1000 2000\n"},
	{name: "user by number", flags: []string{"--user", "1234:4321", "--group-add", "77"}, cmd: "id -u; id -g; id -G", want: "1234\n4321\n4321 77\n"},
	{name: "user owns nothing of root's", flags: []string{"--user", "app"}, cmd: "ls /root", want: ".*Permission denied\n", code: 1},
	{name: "user opens its own stdout", flags: []string{"--user", "app"}, cmd: "echo x >/dev/stderr", want: "x\n"},

	{name: "capabilities by default", cmd: "grep CapEff /proc/self/status", want: "CapEff:\t00000000(a80425fb|800405fb)\n"},
	{name: "no capabilities", flags: []string{"--cap-drop", "all"}, cmd: "grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status | sort -u -k2", want: "Cap...:\t0000000000000000\n"},
	{name: "one capability", flags: []string{"--cap-drop", "all", "--cap-add", "net_admin"}, cmd: "grep -E 'Cap(Eff|Bnd)' /proc/self/status", want: "CapEff:\t0000000000001000\nCapBnd:\t0000000000001000\n"},
	{name: "user without capabilities", flags: []string{"--user", "app"}, cmd: "grep -E 'Cap(Inh|Eff)' /proc/self/status", want: "CapInh:\t0000000000000000\nCapEff:\t0000000000000000\n"},
	{name: "no new privileges", flags: []string{"--security-opt", "no-new-privileges"}, cmd: "grep NoNewPrivs /proc/self/status", want: "NoNewPrivs:\t1\n"},
	{name: "seccomp by default", cmd: "grep -w Seccomp: /proc/self/status; unshare -n true", want: "Seccomp:\t2\n.*not permitted\n", code: 1},
	{name: "seccomp unconfined", flags: []string{"--security-opt", "seccomp=unconfined"}, cmd: "grep -w Seccomp: /proc/self/status", want: "Seccomp:\t0\n"},
	{name: "seccomp profile", flags: []string{"--security-opt", "seccomp=DIR/chmod.json"}, cmd: "chmod 700 /tmp", want: ".*No anode\n", code: 1},
	{name: "masked paths", cmd: "wc -c </proc/keys; ls /sys/firmware | wc -l; echo 1 >/proc/sys/kernel/domainname", want: "0\n0\n.*Read-only file system\n", code: 1},

	{name: "read-only root", flags: []string{"--read-only"}, cmd: "echo >/dev/shm/ok && touch /x", want: ".*Read-only file system\n", code: 1},
	{name: "tmpfs", flags: []string{"--tmpfs", "/t:size=1m,mode=1700,noexec"}, cmd: "stat -c %a /t; df -k /t | awk '{print $2}' | tail -1; grep ' /t ' /proc/mounts | grep -c noexec", want: "1700\n1024\n1\n"},
	{name: "shared memory size", flags: []string{"--shm-size", "1m"}, cmd: "df -k /dev/shm | awk '{print $2}' | tail -1", want: "1024\n"},
	{name: "bind mount", flags: []string{"-v", "DIR/shared:/v"}, cmd: "cat /v/in; echo done >/v/out", want: "from outside\n"},
	{name: "bind mount of a file", flags: []string{"-v", "DIR/shared/in:/etc/deep/er/conf:ro"}, cmd: "cat /etc/deep/er/conf; echo >/etc/deep/er/conf", want: "from outside\n.*Read-only file system\n", code: 1},
	{name: "read-only bind mount", flags: []string{"-v", "DIR/shared:/v:ro"}, cmd: "touch /v/x", want: ".*Read-only file system\n", code: 1},
	{name: "bind mount in long form", flags: []string{"--mount", "type=bind,source=DIR/shared,target=/v,readonly"}, cmd: "cat /v/in; grep -c ' /v .* ro,' /proc/mounts", want: "from outside\n1\n"},
	{name: "shared bind mount", flags: []string{"-v", "DIR/shared:/v:rshared"}, cmd: "grep ' /v ' /proc/self/mountinfo | grep -c shared:", want: "1\n"},
	{name: "slave bind mount", flags: []string{"-v", "DIR/shared:/v:rslave"}, cmd: "grep ' /v ' /proc/self/mountinfo | grep -c master:", want: "1\n"},
	{name: "named volume takes the image's files", flags: []string{"-v", "vol1:/data"}, cmd: "cat /data/seed", want: "seed\n"},
	{name: "mount over a link stays inside", flags: []string{"-v", "DIR/shared:/proc/self/cwd/../../tmp/x"}, cmd: "true", code: -1},

	{name: "resource limit", flags: []string{"--ulimit", "nofile=100:200", "--ulimit", "nproc=300:400"}, cmd: "ulimit -n; ulimit -Hn; grep processes /proc/self/limits", want: "100\n200\nMax processes +300 +400 .*\n"},
	{name: "sysctl", flags: []string{"--sysctl", "net.ipv4.ip_unprivileged_port_start=7"}, cmd: "cat /proc/sys/net/ipv4/ip_unprivileged_port_start", want: "7\n"},
	{name: "kernel sysctl of the ipc namespace", flags: []string{"--sysctl", "kernel.shmmni=77"}, cmd: "cat /proc/sys/kernel/shmmni", want: "77\n"},
	{name: "out-of-memory score", flags: []string{"--oom-score-adj", "321"}, cmd: "cat /proc/self/oom_score_adj", want: "321\n"},
	{name: "device", flags: []string{"--device", "/dev/fuse:/dev/other:r"}, cmd: "stat -c %t:%T /dev/other; : </dev/other && echo read; : >/dev/other", want: "a:e5\nread\n.*not permitted\n", code: 1, skip: noFuse},
	{name: "device rules", flags: []string{"--cap-add", "mknod"}, cmd: "mknod /tmp/m c 1 11 && head -c 1 /tmp/m", want: ".*not permitted\n", code: 1},
	{name: "default devices", cmd: "ls -l /dev | awk '/^[cl]/ {print $NF}' | tr '\\n' ' '; cat /dev/null; head -c 1 /dev/urandom | wc -c", want: "(.*)\n?1\n"},

	{name: "init", flags: []string{"--init"}, cmd: "cat /proc/1/comm; sh -c '(sleep 0.01 &)'; sleep 0.1; ps -o pid,stat | grep -c Z", want: "(docker|podman)-init\n0\n", code: 1},
	{name: "terminal", flags: []string{"-t"}, cmd: "tty; ls -l /dev/console | cut -c1; echo x >/dev/tty", want: "/dev/pts/0\r\nc\r\nx\r\n"},
	{name: "host's network", flags: []string{"--network", "host"}, cmd: "readlink /proc/self/ns/net", want: "NS-net\n"},
	{name: "host's processes", flags: []string{"--pid", "host"}, cmd: "readlink /proc/self/ns/pid", want: "NS-pid\n"},
	{name: "host's ipc", flags: []string{"--ipc", "host"}, cmd: "readlink /proc/self/ns/ipc", want: "NS-ipc\n"},
	{name: "host's name", flags: []string{"--uts", "host"}, cmd: "readlink /proc/self/ns/uts; hostname", want: "NS-uts\nisland\n"},
	{name: "host's cgroups", flags: []string{"--cgroupns", "host"}, cmd: "readlink /proc/self/ns/cgroup", want: "NS-cgroup\n"},
	{name: "own cgroups", flags: []string{"--cgroupns", "private"}, cmd: "cut -d: -f3 /proc/self/cgroup | sort -u; ls -d /sys/fs/cgroup", want: "/\n/sys/fs/cgroup\n"},
	{name: "own namespaces", cmd: "for n in net pid ipc uts mnt; do readlink /proc/self/ns/$n; done | grep -c -E 'NS-(net|pid|ipc|uts)'", want: "0\n", code: 1},
	{name: "no network", flags: []string{"--network", "none"}, cmd: "ip -o link | grep -c -v ' lo:'; ip -o link show lo | grep -c LOWER_UP", want: "0\n1\n"},
	{name: "network", cmd: "ip -o -4 addr show eth0 | grep -c inet; ip route | grep -c default", want: "1\n1\n"},
	{
		name: "privileged", flags: []string{"--privileged"}, cmd: "mount -t tmpfs x /tmp && grep -w Seccomp: /proc/self/status; ls /dev/kmsg; touch /sys/fs/cgroup && echo cgroups are writable",
		want: "Seccomp:\t0\n/dev/kmsg\ncgroups are writable\n", skip: noSysResource,
	},
	{name: "score below the caller's", flags: []string{"--oom-score-adj", "-5"}, cmd: "cat /proc/self/oom_score_adj", want: "-5\n", skip: noSysResource},
	{name: "limit above the caller's", flags: []string{"--ulimit", "nofile=2000000:2000000"}, cmd: "ulimit -n", want: "2000000\n", skip: noSysResource},
}

// refusals are commands that cannot be run. The engines tell their users' exit
// codes 126 and 127 by the words of the runtime.
var refusals = []option{
	{name: "missing command", args: []string{"no-such-command"}, code: 127, want: `executable file.*not found in \$PATH`},
	{name: "missing path", args: []string{"/no/such"}, code: 127, want: `stat /no/such: no such file or directory|executable file.*not found|/no/such.*[Nn]o such file`},
	{name: "file without the right to execute", args: []string{"/etc/passwd"}, code: 126, want: `[Pp]ermission denied`},
	{name: "file without the right to execute in PATH", args: []string{"not-executable"}, code: 127, want: `executable file.*not found in \$PATH`},
	{name: "directory", args: []string{"/tmp"}, code: 126, want: `[Pp]ermission denied|[Ii]s a directory`},
	{name: "unknown flag", flags: []string{"--no-such-flag"}, cmd: "true", code: 125, want: `no-such-flag`},
	{name: "unknown user", flags: []string{"--user", "nobody-here"}, cmd: "true", code: 125, want: `nobody-here`, only: "docker"},
	{name: "working directory is a file", flags: []string{"-w", "/etc/passwd"}, cmd: "true", code: -1, want: `not a directory`},
}

// testOptions runs the table with one engine.
func testOptions(t *testing.T, c client, table []option) {
	dir := optionFiles(t)
	fill := strings.NewReplacer("DIR", dir, "NS-net", namespace(t, "net"), "NS-pid", namespace(t, "pid"),
		"NS-ipc", namespace(t, "ipc"), "NS-uts", namespace(t, "uts"), "NS-cgroup", namespace(t, "cgroup"))
	for _, o := range table {
		if o.only != "" && o.only != c.name {
			continue
		}
		t.Run(o.name, func(t *testing.T) {
			t.Parallel() // engines wait more than they work
			o.run(t, c.in(t), fill)
		})
	}
}

func (o option) run(t *testing.T, c client, fill *strings.Replacer) {
	if o.skip != nil {
		if why, not := o.skip(); not {
			t.Skip(why)
		}
	}
	args := []string{"run", "--rm"}
	for _, flag := range o.flags {
		args = append(args, fill.Replace(flag))
	}
	args = append(args, imageRef)
	if o.cmd != "" {
		args = append(args, "sh", "-c", fill.Replace(o.cmd))
	}
	r := c.feed(o.stdin, append(args, o.args...)...)
	if r.code != o.code && (o.code != -1 || r.code == 0) {
		t.Errorf("want exit code %d, got %s", o.code, r)
	}
	pattern := quoteNamespaces.Replace(fill.Replace(o.want))
	if o.code != -1 && o.code < 125 {
		pattern = "^" + pattern + "$" // the command's own words, nothing beside
	}
	if o.want != "" && !regexp.MustCompile(pattern).MatchString(r.stdout+r.stderr) {
		t.Errorf("want %s, got %s", pattern, r)
	}
}

// quoteNamespaces quotes what the kernel writes of a namespace: net:[4026531840].
var quoteNamespaces = strings.NewReplacer(":[40", `:\[40`)

// namespace is what the tests' own namespace is called.
func namespace(t *testing.T, kind string) string {
	t.Helper()
	name, err := os.Readlink("/proc/self/ns/" + kind)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// optionFiles makes the directory that the table calls DIR.
func optionFiles(t *testing.T) string {
	t.Helper()
	dir := runDir(t)
	if err := errors.Join(unix.Mount(dir, dir, "", unix.MS_BIND, ""), unix.Mount("", dir, "", unix.MS_SHARED, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	profile := asJSON(t, map[string]any{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []any{
		map[string]any{"names": []string{"chmod", "fchmodat"}, "action": "SCMP_ACT_ERRNO", "errnoRet": 55},
	}})
	for name, content := range map[string]string{"shared/in": "from outside\n", "chmod.json": string(profile)} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// noSysResource tells whether root lacks CAP_SYS_RESOURCE, as in some virtual
// machines: then nobody can give it to a container or raise a hard limit.
func noSysResource() (why string, not bool) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err.Error(), true
	}
	_, after, _ := strings.Cut(string(status), "CapEff:")
	var set uint64
	if _, err := fmt.Sscanf(after, "%x", &set); err != nil {
		return err.Error(), true
	}
	return "needs CAP_SYS_RESOURCE, which root has not got here", set&(1<<unix.CAP_SYS_RESOURCE) == 0
}

// noFuse tells whether the device that the table hands over is missing.
func noFuse() (why string, not bool) {
	_, err := os.Stat("/dev/fuse")
	return "needs /dev/fuse", err != nil
}
