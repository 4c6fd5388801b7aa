package vm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// qemu is the emulator's program.
const qemu = "qemu-system-x86_64"

// qemuArgs are the emulator's arguments for the machine whose files lie in dir. Descriptor 3
// is the host's port. They are a pure function of the configuration.
func qemuArgs(c Config, image, dir string) []string {
	file := func(name string) string { return filepath.Join(dir, name) }
	return []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		// pc boots faster than q35, Nehalem faster than any other model; rdrand
		// gives the guest's kernel its randomness at once.
		"-machine", "pc,memory-backend=mem", "-accel", "tcg,thread=multi", "-cpu", "Nehalem,+rdrand",
		"-smp", fmt.Sprint(c.CPUs), "-m", fmt.Sprintf("%dM", c.Memory),
		// The server of files reads and writes the guest's memory itself.
		"-object", fmt.Sprintf("memory-backend-memfd,id=mem,size=%dM,share=on", c.Memory),
		"-kernel", image, "-initrd", file("initrd"),
		"-append", strings.Join(append([]string{"console=ttyS0 quiet loglevel=4 panic=-1 tsc=unstable"}, c.KernelArgs...), " "),
		"-serial", "file:" + file("console"),
		"-chardev", "socket,id=files,path=" + file("files"), "-device", "vhost-user-fs-pci,chardev=files,tag=host",
		"-drive", "if=virtio,format=raw,cache=unsafe,file=" + file("disk"),
		"-device", "virtio-serial-pci", "-chardev", "socket,id=port,fd=3", "-device", "virtserialport,chardev=port,name=" + PortName,
	}
}

// emulator is QEMU's command, with its end of the port.
func emulator(c Config, image, dir string, port *os.File) *exec.Cmd {
	cmd := exec.Command(qemu, qemuArgs(c, image, dir)...)
	cmd.ExtraFiles = []*os.File{port}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	return cmd
}

// diskSize is what the guest sees; the file is sparse.
const diskSize = 4 << 30

// makeDisk makes an empty ext4 file system. Without a journal, because nobody
// will ever recover it.
func makeDisk(file string) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := f.Truncate(diskSize); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	out, err := exec.Command("/sbin/mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-E", "lazy_itable_init=1,root_owner=0:0", file).CombinedOutput()
	if err != nil {
		return fmt.Errorf("make file system %s: %w: %s", file, err, out)
	}
	return nil
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
