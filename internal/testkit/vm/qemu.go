package vm

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// qemu is the emulator's program.
const qemu = "qemu-system-x86_64"

// kernelArgs are the kernel's command line, before the caller's own. no_timer_check:
// whether the timer's interrupt comes in time to be believed depends on how busy the
// host is. The last two let the console ask what the guest is at: see interrogate.
const kernelArgs = "console=ttyS0 quiet loglevel=4 panic=-1 tsc=unstable no_timer_check sysrq_always_enabled unknown_nmi_panic"

// qemuArgs are the emulator's arguments for a machine made of [parts]. They are a pure
// function of the configuration.
func qemuArgs(c Config, image string) []string {
	channel := func(name string, fd int) string { return fmt.Sprintf("socket,id=%s,fd=%d", name, fd) }
	return []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		// pc boots faster than q35, Nehalem faster than any other model; rdrand
		// gives the guest's kernel its randomness at once.
		"-machine", "pc,memory-backend=mem", "-cpu", "Nehalem,+rdrand",
		// One thread plays all processors in turn. With a thread for each, QEMU before
		// 8.1 may translate code while another processor changes it and keep what it
		// has read: the kernel patches its own code through breakpoints whenever a
		// static key changes (the first CPU quota is one), and a processor that keeps
		// the breakpoint runs into it for ever. Fixed there by "accel/tcg: Always lock
		// pages before translation". One thread also uses less of the host.
		"-accel", "tcg,thread=single",
		"-smp", fmt.Sprint(c.CPUs), "-m", fmt.Sprintf("%dM", c.Memory),
		// The server of files reads and writes the guest's memory itself.
		"-object", fmt.Sprintf("memory-backend-memfd,id=mem,size=%dM,share=on", c.Memory),
		"-kernel", image, "-initrd", fmt.Sprintf("/proc/self/fd/%d", initrdFD),
		"-append", strings.Join(append([]string{kernelArgs}, c.KernelArgs...), " "),
		"-chardev", channel("console", serialFD), "-serial", "chardev:console",
		"-chardev", channel("control", monitorFD), "-mon", "chardev=control,mode=control",
		"-chardev", channel("files", filesFD), "-device", "vhost-user-fs-pci,chardev=files,tag=host",
		"-drive", fmt.Sprintf("if=virtio,format=raw,cache=unsafe,file=/proc/self/fd/%d", diskFD),
		"-device", "virtio-serial-pci", "-chardev", channel("port", portFD), "-device", "virtserialport,chardev=port,name=" + PortName,
	}
}

// emulator is QEMU's command, with its parts.
func emulator(c Config, image string, p parts) *exec.Cmd {
	cmd := exec.Command(qemu, qemuArgs(c, image)...)
	cmd.ExtraFiles = p.list()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	return cmd
}

// Missing names what this host lacks for a machine, and says how to get it; it is
// empty if nothing is missing.
func Missing() string {
	if os.Getenv(InsideVariable) != "" {
		return "this is the test VM, and there is none in it"
	}
	if os.Geteuid() != 0 {
		return "the test VM needs root"
	}
	for file, pkg := range map[string]string{
		"/usr/bin/" + qemu: "qemu-system-x86", virtiofsd: "qemu-system-common", "/sbin/mkfs.ext4": "e2fsprogs", "/sbin/depmod": "kmod",
	} {
		if _, err := os.Stat(file); err != nil {
			return fmt.Sprintf("the test VM needs %s: apt-get install %s", file, pkg)
		}
	}
	return ""
}
