package sys

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Watch returns a file from which can be read as soon as one of events
// (inotify(7)) has happened to path, and not before.
func Watch(path string, events uint32) (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", path, err)
	}
	w := file(fd, "watch of "+path) // non-blocking, and so in Go's poller: Close ends a Read
	if _, err := unix.InotifyAddWatch(fd, path, events); err != nil {
		return nil, errors.Join(fmt.Errorf("watch %s: %w", path, err), w.Close())
	}
	return w, nil
}

// WatchBuffer is large enough for any event: inotify refuses to be read into less.
const WatchBuffer = unix.SizeofInotifyEvent + unix.NAME_MAX + 1
