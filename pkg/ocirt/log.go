package ocirt

import (
	"bytes"
	"encoding/json"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// maxLog bounds what is read back of a runtime's log: a runtime in debug mode
// or a hostile hook may write without end.
const maxLog = 1 << 20

// newLog returns the memory file that serves as --log: nothing to create in a
// directory, and nothing left behind when this process is killed. Where memfds
// are not to be had, the runtime's standard error has to do.
func newLog() *os.File {
	fd, err := unix.MemfdCreate("runtime-log", unix.MFD_CLOEXEC)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), "runtime log")
}

func (c *call) closeLog() {
	if c.log != nil {
		_ = c.log.Close() // a memory file: nothing to lose
		c.log = nil
	}
}

// lastError returns the message of the last line of level error or fatal.
func lastError(log *os.File) string {
	if log == nil {
		return ""
	}
	data, err := io.ReadAll(io.NewSectionReader(log, 0, maxLog))
	if err != nil {
		return ""
	}
	lines := bytes.Split(data, []byte("\n"))
	for i := len(lines) - 1; i >= 0; i-- {
		var entry struct{ Level, Msg string }
		if json.Unmarshal(lines[i], &entry) != nil {
			continue
		}
		if entry.Level == "error" || entry.Level == "fatal" {
			return entry.Msg
		}
	}
	return ""
}
