package sys

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// maxFiles is the kernel's limit of descriptors in one message (SCM_MAX_FD).
const maxFiles = 253

// SendFiles sends data with copies of files over the connected unix socket sock.
// The files stay open here. At least one byte must go with descriptors on a stream
// socket: empty data is sent as one zero byte.
func SendFiles(sock int, data []byte, files ...*os.File) error {
	if len(data) == 0 {
		data = []byte{0}
	}
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	err := ignoringEINTR(func() error { return unix.Sendmsg(sock, data, rights, nil, unix.MSG_NOSIGNAL) })
	if err != nil {
		return fmt.Errorf("send %d files: %w", len(files), err)
	}
	return nil
}

// RecvFiles receives one message into buf from the unix socket sock, and the files
// that came with it, close-on-exec. n is 0 with no error at the end of the stream.
// A message whose data or descriptors did not fit is an error, and its descriptors
// are closed: half a message is never acted on.
func RecvFiles(sock int, buf []byte) (n int, files []*os.File, err error) {
	oob := make([]byte, unix.CmsgSpace(4*maxFiles))
	var oobn, flags int
	err = ignoringEINTR(func() error {
		n, oobn, flags, _, err = unix.Recvmsg(sock, buf, oob, unix.MSG_CMSG_CLOEXEC)
		return err
	})
	if err != nil {
		return 0, nil, fmt.Errorf("receive message: %w", err)
	}
	if files, err = rights(oob[:oobn]); err != nil {
		return 0, nil, err
	}
	if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		closeAll(files)
		return 0, nil, fmt.Errorf("receive message: %w", unix.EMSGSIZE)
	}
	return n, files, nil
}

// rights collects the descriptors of all SCM_RIGHTS messages in oob.
func rights(oob []byte) ([]*os.File, error) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("parse control message: %w", err)
	}
	var files []*os.File
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			continue // credentials or other kinds, which carry no descriptors
		}
		for _, fd := range fds {
			files = append(files, file(fd, fmt.Sprintf("received fd %d", fd)))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
