package runtime

import (
	"bytes"
	"os"
	"os/user"
	"strconv"
	"strings"
	"sync"
)

// InUserNamespace reports whether this process lives in a user namespace that is not
// the host's, where being root says little.
func InUserNamespace() bool { return inUserNamespace() }

// inUserNamespace looks once: no program with threads changes its user namespace
// (setns(2)).
var inUserNamespace = sync.OnceValue(func() bool {
	data, err := readFile("/proc/self/uid_map")
	return err == nil && !hostMap(data)
})

// rootless reports whether control groups may be out of reach.
func (r *Runtime) rootless() bool {
	if r.Rootless != nil {
		return *r.Rootless
	}
	return os.Geteuid() != 0 || InUserNamespace()
}

// hostMap reports whether the text of an id map is that of the initial user
// namespace: all 2^32-1 ids, each to itself (user_namespaces(7)). A kernel without
// user namespaces has no such file and a caller that reads none.
func hostMap(data []byte) bool {
	fields := bytes.Fields(data)
	return len(fields) == 3 && string(fields[0]) == "0" && string(fields[1]) == "0" && string(fields[2]) == "4294967295"
}

// userName is the name of a user of the host, or "#" and the number if it has none.
func userName(uid int) string {
	if uid == 0 {
		return "root" // without a look at any file: it is nearly always this one
	}
	id := strconv.Itoa(uid)
	u, err := user.LookupId(id)
	if err != nil || strings.TrimSpace(u.Username) == "" {
		return "#" + id
	}
	return u.Username
}
