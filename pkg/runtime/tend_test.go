package runtime

import (
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"box/pkg/plan"
)

// A program that makes many mounts has room for their descriptors; others keep the limit.
func TestRoomForMounts(t *testing.T) {
	p := &specs.Process{Rlimits: []specs.POSIXRlimit{{Type: plan.LimitFiles, Soft: 64, Hard: 1024}, {Type: "RLIMIT_CORE", Hard: 5}}}
	if withMounts(p, 200) != p {
		t.Error("200 mounts need no more")
	}
	got := withMounts(p, 2000).Rlimits
	if got[0].Hard != 6256 || got[1].Hard != 5 || p.Rlimits[0].Hard != 1024 {
		t.Errorf("for 2000 mounts %+v, from %+v", got, p.Rlimits)
	}
}
