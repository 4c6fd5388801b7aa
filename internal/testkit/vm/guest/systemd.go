package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"box/internal/testkit/vm"
)

// ServeCommand is the first argument with which systemd starts this program as the
// unit that runs the command.
const ServeCommand = "@serve"

// Where the unit finds this program and its job, and systemd its units.
const (
	ownDir   = "/run/box-vm"
	unitDir  = "/run/systemd/system"
	unitName = "box-vm"
)

// units are systemd's own part of the machine: a target that wants no more than
// the journal, logins, D-Bus and the command. The standard output of the command
// goes to the host; what the unit itself says goes to the console.
func units(mode vm.Mode) map[string]string {
	after := "dbus.socket systemd-logind.service"
	if mode == vm.SystemdUser {
		after += fmt.Sprintf(" user@%d.service", userID)
	}
	return map[string]string{
		unitName + ".target": "[Unit]\nDescription=Test VM\nRequires=" + unitName + ".service\n",
		unitName + ".service": "[Unit]\nDescription=Command of the test VM\nDefaultDependencies=no\n" +
			"Wants=systemd-journald.service " + after + "\nAfter=systemd-journald.service " + after + "\n" +
			"[Service]\nType=exec\nExecStart=" + ownDir + "/guest " + ServeCommand + "\n" +
			"Delegate=yes\nTasksMax=infinity\nLimitNOFILE=1024:524288\nStandardOutput=tty\nStandardError=tty\nTTYPath=/dev/ttyS0\n",
	}
}

// masked are units of Debian that have nothing to do here and cost seconds each:
// devices are made by the kernel, files by this package.
var masked = []string{
	"systemd-udevd.service", "systemd-udev-trigger.service", "systemd-udevd-control.socket", "systemd-udevd-kernel.socket",
	"systemd-tmpfiles-setup.service", "systemd-tmpfiles-setup-dev.service", "systemd-sysusers.service",
	"systemd-random-seed.service", "systemd-update-utmp.service", "systemd-journal-flush.service",
	"systemd-modules-load.service", "systemd-sysctl.service", "systemd-remount-fs.service", "systemd-timesyncd.service",
	"systemd-binfmt.service", "proc-sys-fs-binfmt_misc.automount", "systemd-pstore.service", "kmod-static-nodes.service",
	"sys-kernel-config.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-fs-fuse-connections.mount",
	"modprobe@.service", "systemd-machine-id-commit.service", "systemd-firstboot.service", "timers.target", "paths.target",
	"systemd-ask-password-console.path", "systemd-ask-password-wall.path", "systemd-hwdb-update.service",
	"systemd-boot-system-token.service", "systemd-pcrphase.service", "systemd-pcrphase-sysinit.service",
	"apparmor.service", "docker.socket", "podman.socket", "systemd-initctl.socket", "systemd-networkd.socket",
}

// becomeSystemd makes this process systemd, which starts the program again to
// serve the job.
func becomeSystemd(job *vm.Job) error {
	if err := writeOwn(job); err != nil {
		return err
	}
	// systemd would take the machine for a container by it.
	if err := os.RemoveAll("/.dockerenv"); err != nil {
		return err
	}
	if err := os.MkdirAll(unitDir, 0o755); err != nil {
		return err
	}
	for name, text := range units(job.Mode) {
		if err := os.WriteFile(filepath.Join(unitDir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	for _, name := range masked {
		if err := os.Symlink("/dev/null", filepath.Join(unitDir, name)); err != nil {
			return err
		}
	}
	// It mounts the hierarchy itself, with its own options, and finds the rest mounted.
	if err := unix.Unmount(groupRoot, 0); err != nil {
		return fmt.Errorf("unmount %s: %w", groupRoot, err)
	}
	const systemd = "/lib/systemd/systemd"
	err := unix.Exec(systemd, []string{systemd, "--unit=" + unitName + ".target", "--show-status=no"}, []string{"container=", "SYSTEMD_LOG_TARGET=console"})
	return fmt.Errorf("execute %s: %w", systemd, err)
}

// writeOwn leaves the program and the job where the unit finds them.
func writeOwn(job *vm.Job) error {
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	text, err := json.Marshal(job)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(ownDir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(ownDir, "guest"), program, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(ownDir, "job.json"), text, 0o644)
}

// Serve is the program as the unit: it takes the port over and runs the command. It
// returns only with an error.
func Serve() error {
	job, err := readJob(filepath.Join(ownDir, "job.json"))
	if err != nil {
		return err
	}
	port, err := openPort()
	if err != nil {
		return err
	}
	if job.Mode == vm.SystemdUser {
		job.Args = throughUserManager(job)
	}
	err = serve(job, port)
	return errors.Join(err, vm.NewFrameWriter(port).Write(vm.Trouble, []byte(err.Error())))
}

// throughUserManager is the command line that runs the job as a unit of the user's
// own systemd: the only place from which his processes may be moved within his groups.
func throughUserManager(job *vm.Job) []string {
	args := []string{"systemd-run", "--user", "--quiet", "--wait", "--pipe", "--collect", "--property=Delegate=yes", "--working-directory=" + job.Dir}
	for _, entry := range environment(job) {
		args = append(args, "--setenv="+entry)
	}
	return append(append(args, "--"), job.Args...)
}
