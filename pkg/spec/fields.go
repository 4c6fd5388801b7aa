package spec

import (
	"github.com/opencontainers/runtime-spec/specs-go"

	"box/internal/errdefs"
)

// docs/spec.md says of every field of the configuration what becomes of it; a test
// holds it against specs.Spec and against the table below. A field that a new release
// of the specification adds is in neither and fails that test.

const (
	notYet  = "not supported yet"
	otherOS = "not supported: box-runtime runs Linux containers"
)

// refused are the fields that are not carried out, each with the reason and the
// question whether a configuration uses it. A field stands for all that is below
// it. Values that ask for nothing are not a use: engines write some of these
// fields whether anybody wants them or not.
var refused = []struct {
	path, reason string
	used         func(*specs.Spec) bool
}{
	{"process.user.username", otherOS, func(s *specs.Spec) bool { return processOf(s).User.Username != "" }},
	{"process.commandLine", otherOS, func(s *specs.Spec) bool { return processOf(s).CommandLine != "" }},
	{"linux.resources.memory.useHierarchy", "not supported: control groups are always hierarchical", func(s *specs.Spec) bool { return memoryOf(s).UseHierarchy != nil && !*memoryOf(s).UseHierarchy }},
	{"solaris", otherOS, func(s *specs.Spec) bool { return s.Solaris != nil }},
	{"windows", otherOS, func(s *specs.Spec) bool { return s.Windows != nil }},
	{"vm", otherOS, func(s *specs.Spec) bool { return s.VM != nil }},
	{"zos", otherOS, func(s *specs.Spec) bool { return s.ZOS != nil }},
	{"freebsd", otherOS, func(s *specs.Spec) bool { return s.FreeBSD != nil }},
}

// refuse returns an error for the first field that is set and not carried out.
func refuse(s *specs.Spec) error {
	for _, f := range refused {
		if f.used(s) {
			return errdefs.New(errdefs.ErrUnsupported, "%s: %s", f.path, f.reason)
		}
	}
	return nil
}

// The functions below return a section of the configuration, an empty one where
// it is absent. They keep the table free of closures, which would have to be
// made each time the program starts.

func processOf(s *specs.Spec) *specs.Process { return orEmpty(s.Process) }

func linuxOf(s *specs.Spec) *specs.Linux { return orEmpty(s.Linux) }

func resourcesOf(s *specs.Spec) *specs.LinuxResources { return orEmpty(linuxOf(s).Resources) }

func memoryOf(s *specs.Spec) *specs.LinuxMemory { return orEmpty(resourcesOf(s).Memory) }

func orEmpty[T any](p *T) *T {
	if p == nil {
		return new(T)
	}
	return p
}
