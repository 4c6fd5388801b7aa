package sys

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// DialUnix connects to the stream socket at path, which begins with "@" for a name in
// the abstract namespace (unix(7)) and is shorter than 108 bytes. The error names the
// path. (Package net would serve too, and would cost box-runtime a tenth of its start.)
func DialUnix(path string) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("create socket: %w", err)
	}
	f := file(fd, path)
	err = ignoringEINTR(func() error { return unix.Connect(fd, &unix.SockaddrUnix{Name: path}) })
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("connect to %s: %w", path, err)
	}
	return f, nil
}
