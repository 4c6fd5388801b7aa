package guest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"box/internal/testkit/vm"
)

// IsInit tells whether this process is the init of a machine of ours: PID 1, in an initial
// file system, with a job. PID 1 of a container is not.
func IsInit() bool {
	var root unix.Statfs_t
	if os.Getpid() != 1 || unix.Statfs("/", &root) != nil || root.Type != unix.RAMFS_MAGIC && root.Type != unix.TMPFS_MAGIC {
		return false
	}
	_, err := os.Lstat(vm.JobFile)
	return err == nil
}

// Main is PID 1. It does not return: its end would be the kernel's.
func Main() {
	var port *os.File
	err := boot(&port)
	if port != nil {
		_ = vm.NewFrameWriter(port).Write(vm.Trouble, []byte("set up the guest: "+err.Error()))
	}
	fmt.Fprintln(os.Stderr, "guest:", err) // the console
	select {}
}

// boot makes the machine and runs the job in it; it returns only if it cannot. What has been opened of the port
// is left in port, for Main to complain to.
func boot(port **os.File) error {
	job, err := readJob(vm.JobFile)
	if err != nil {
		return err
	}
	if err := mountAll(kernelMounts("/")); err != nil {
		return err
	}
	for _, file := range job.Modules {
		if err := loadModule(file); err != nil {
			return err
		}
	}
	if *port, err = openPort(); err != nil {
		return err
	}
	if err := makeRoot(job); err != nil {
		return err
	}
	if err := settle(); err != nil {
		return err
	}
	if err := makeGroups(job.Mode); err != nil {
		return err
	}
	if err := makeUser(); err != nil {
		return err
	}
	if job.Mode.HasSystemd() {
		return becomeSystemd(job)
	}
	return serve(job, *port)
}

// readJob reads what the host wants.
func readJob(file string) (*vm.Job, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	job := &vm.Job{}
	if err := json.Unmarshal(text, job); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return job, nil
}

// loadModule loads one module; the order of the list has seen to its needs.
func loadModule(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && err != unix.EEXIST {
		return fmt.Errorf("load %s: %w", file, err)
	}
	return nil
}

// openPort opens the port by its name: the number in the device's name depends on
// the order in which they were found.
func openPort() (*os.File, error) {
	names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
	if err != nil {
		return nil, err
	}
	for _, file := range names {
		name, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if strings.TrimSpace(string(name)) == vm.PortName {
			return os.OpenFile(filepath.Join("/dev", filepath.Base(filepath.Dir(file))), os.O_RDWR, 0)
		}
	}
	return nil, fmt.Errorf("open port %s: not there", vm.PortName)
}

// settle gives the kernel what a distribution's init gives it: the loopback
// device up, a name, the limits of open files that systemd sets.
func settle() error {
	if err := unix.Sethostname([]byte("vm")); err != nil {
		return fmt.Errorf("set hostname: %w", err)
	}
	if err := loopbackUp(); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1024, Max: 1 << 19})
}

// loopbackUp is `ip link set lo up`; see netdevice(7).
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}
