package testkit

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// scratchPrefix begins the names of all directories that [Scratch] makes.
const scratchPrefix = "box-scratch-"

// Scratch makes a directory for what all tests of this process share, as the
// programs that they run, and returns what removes it. A lock on the directory says that the process
// lives, so that whoever makes the next one removes those of the killed: no test
// and no fuzz worker that was killed leaves its directory for ever. Children of the process do not
// inherit the lock.
func Scratch() (dir string, remove func() error, err error) {
	sweepScratch(os.TempDir())
	for {
		dir, err := os.MkdirTemp("", scratchPrefix)
		if err != nil {
			return "", nil, err
		}
		lock, err := lockScratch(dir)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.EWOULDBLOCK) {
			continue // somebody has taken it for a dead one's before it was locked
		}
		if err != nil {
			return "", nil, errors.Join(err, os.Remove(dir))
		}
		return dir, func() error { return errors.Join(os.RemoveAll(dir), lock.Close()) }, nil
	}
}

// lockScratch locks a directory that is still there after that.
func lockScratch(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(os.NewSyscallError("flock", err), f.Close())
	}
	if _, err := os.Stat(dir); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// sweepScratch removes the directories below temp that nobody locks. Those with
// something mounted in them stay: what is removed in a mount may be somebody else's.
func sweepScratch(temp string) {
	dirs, _ := filepath.Glob(filepath.Join(temp, scratchPrefix+"*"))
	if len(dirs) == 0 {
		return
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return
	}
	for _, dir := range dirs {
		if lock, err := lockScratch(dir); err == nil {
			if !strings.Contains(string(mounts), " "+dir+"/") {
				_ = os.RemoveAll(dir)
			}
			lock.Close()
		}
	}
}
