package launch

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Program is a compiled plan in an executable file without a name.
type Program struct {
	plan *Plan
	file *os.File
}

// NewProgram compiles the plan for this machine and seals it. The caller closes it.
func NewProgram(p *Plan) (*Program, error) {
	elf, err := Compile(p, HostArch)
	if err != nil {
		return nil, err
	}
	f, err := seal(elf)
	if err != nil {
		return nil, err
	}
	return &Program{p, f}, nil
}

// Close gives the program's file back. Running processes keep it.
func (p *Program) Close() error { return p.file.Close() }

// memfdName is what /proc/PID/exe shows until the container's command is executed.
const memfdName = "box-launch"

// seal puts an executable into an anonymous file that can be executed but not
// changed any more, so that /proc/PID/exe gives nobody a way to change what later
// programs execute (CVE-2019-5736). Where the host forbids executable memfds
// (sysctl vm.memfd_noexec=2), it is an unlinked file on a tmpfs instead.
func seal(elf []byte) (*os.File, error) {
	f, err := memfd()
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOSYS) {
		return sealUnlinked(elf)
	}
	if err != nil {
		return nil, fmt.Errorf("create memfd: %w", err)
	}
	if _, err := f.Write(elf); err != nil {
		f.Close()
		return nil, fmt.Errorf("write launch program: %w", err)
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, fmt.Errorf("seal launch program: %w", err)
	}
	return f, nil
}

// memfd asks for an executable one by name, which kernels before 6.3 do not know.
func memfd() (*os.File, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(memfdName, flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate(memfdName, flags)
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), memfdName), nil
}

// tmpfsDirs are tried in turn for the file that stands in for a memfd: each is a
// tmpfs on common systems, and some are mounted noexec.
var tmpfsDirs = []string{"/run", "/dev/shm", "/tmp"}

// sealUnlinked tries the directories until one takes a file that can be executed.
func sealUnlinked(elf []byte) (*os.File, error) {
	var all error
	for _, dir := range tmpfsDirs {
		f, err := sealIn(dir, elf)
		if err == nil {
			return f, nil
		}
		all = errors.Join(all, err)
	}
	return nil, fmt.Errorf("place launch program without a memfd: %w", all)
}

// sealIn writes the program to an unlinked file in dir and reopens it for reading
// only: a file that is open for writing cannot be executed.
func sealIn(dir string, elf []byte) (*os.File, error) {
	w, err := os.OpenFile(dir, unix.O_TMPFILE|os.O_RDWR|unix.O_CLOEXEC, 0o500)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	if _, err := w.Write(elf); err != nil {
		return nil, err
	}
	f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", w.Fd()))
	if err != nil {
		return nil, err
	}
	if err := unix.Faccessat2(int(f.Fd()), "", unix.X_OK, unix.AT_EMPTY_PATH); err != nil {
		f.Close()
		return nil, fmt.Errorf("execute from %s: %w", dir, err)
	}
	return f, nil
}
