package runtime

import (
	"fmt"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
	"box/internal/sys"
)

// sendFile connects to a unix socket and sends a descriptor over it, with a name as
// the message: the protocol of --console-socket and --pidfd-socket (runc's
// docs/terminals.md).
func sendFile(socket, name string, f *os.File) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: socket}); err != nil {
		return fmt.Errorf("connect to %s: %w", socket, err)
	}
	if err := sys.SendFiles(fd, []byte(name), f); err != nil {
		return fmt.Errorf("send %s to %s: %w", name, socket, err)
	}
	return nil
}

type console struct{}

func (b *assembly) console(p *specs.Process) error {
	if p.Terminal {
		return errdefs.New(errdefs.ErrUnsupported, "process.terminal: not supported yet")
	}
	return nil
}

func (j *joining) addConsole(b *assembly) error { return b.console(j.spec) }
