package spec

import (
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// checkProcess checks a process, the container's first or one that joins.
func checkProcess(p *specs.Process) error {
	if len(p.Args) == 0 {
		return invalid("process.args", "missing")
	}
	if p.Args[0] == "" {
		return invalid("process.args[0]", "empty")
	}
	if err := checkAbsolute("process.cwd", p.Cwd); err != nil {
		return err
	}
	if adj := p.OOMScoreAdj; adj != nil && (*adj < -1000 || *adj > 1000) {
		return invalid("process.oomScoreAdj", "%d is not between -1000 and 1000", *adj)
	}
	for _, check := range []func(*specs.Process) error{checkUser, checkStrings, checkRlimits, checkCapabilities} {
		if err := check(p); err != nil {
			return err
		}
	}
	return nil
}

// checkUser checks the ids, which must survive every signed 32-bit integer.
func checkUser(p *specs.Process) error {
	if err := checkID("process.user.uid", &p.User.UID); err != nil {
		return err
	}
	if err := checkID("process.user.gid", &p.User.GID); err != nil {
		return err
	}
	for i, gid := range p.User.AdditionalGids {
		if err := checkID(element("process.user.additionalGids", i), &gid); err != nil {
			return err
		}
	}
	if m := p.User.Umask; m != nil && *m > 0o777 {
		return invalid("process.user.umask", "%#o is larger than 0777", *m)
	}
	return nil
}

// checkStrings checks arguments and environment. HOME is used by programs that
// write account files, where a line break starts another account
// (CVE-2022-4318).
func checkStrings(p *specs.Process) error {
	for i, a := range p.Args {
		if strings.Contains(a, "\x00") {
			return invalid(element("process.args", i), "%q contains a NUL byte", a)
		}
	}
	for i, e := range p.Env {
		name, value, ok := strings.Cut(e, "=")
		path := element("process.env", i)
		switch {
		case !ok || name == "":
			return invalid(path, "%q is not NAME=value", e)
		case strings.Contains(e, "\x00"):
			return invalid(path, "%q contains a NUL byte", e)
		case strings.Contains(name, "\n"), name == "HOME" && strings.Contains(value, "\n"):
			return invalid(path, "%q has a line break", e)
		}
	}
	return nil
}

// checkRlimits checks the resource limits of the process.
func checkRlimits(p *specs.Process) error {
	seen := make(map[string]bool, len(p.Rlimits))
	for i, r := range p.Rlimits {
		path := element("process.rlimits", i)
		if _, ok := Rlimit(r.Type); !ok {
			return invalid(path+".type", "unknown limit %q", r.Type)
		}
		if seen[r.Type] {
			return invalid(path+".type", "%s is set twice", r.Type)
		}
		seen[r.Type] = true
		if r.Soft > r.Hard {
			return invalid(path+".soft", "%d is larger than the hard limit %d", r.Soft, r.Hard)
		}
	}
	return nil
}

// rlimits holds the names of resource limits at their numbers, as in
// asm-generic/resource.h, which amd64 and arm64 share.
var rlimits = [...]string{
	"RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_DATA", "RLIMIT_STACK",
	"RLIMIT_CORE", "RLIMIT_RSS", "RLIMIT_NPROC", "RLIMIT_NOFILE",
	"RLIMIT_MEMLOCK", "RLIMIT_AS", "RLIMIT_LOCKS", "RLIMIT_SIGPENDING",
	"RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_RTPRIO", "RLIMIT_RTTIME",
}

// Rlimit returns the number that prlimit(2) has for a limit such as
// RLIMIT_NOFILE.
func Rlimit(name string) (int, bool) {
	i := slices.Index(rlimits[:], name)
	return i, i >= 0
}

// checkCapabilities refuses sets that capset(2) would refuse, in words that name
// the capability. Whether the kernel knows the names is found out where they are
// set: the specification wants unknown ones ignored with a warning.
func checkCapabilities(p *specs.Process) error {
	if p.Capabilities == nil {
		return nil
	}
	for _, c := range p.Capabilities.Effective {
		if !slices.Contains(p.Capabilities.Permitted, c) {
			return invalid("process.capabilities.effective", "%s is not in the permitted set", c)
		}
	}
	return nil
}

// element is the path of an element of an array.
func element(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }
