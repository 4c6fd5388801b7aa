package cgroups

import (
	"fmt"
	"slices"

	"box/pkg/cgroups/systemd"
)

// unitDevices are the properties by which systemd keeps the rules of a unit itself, so
// that `systemctl show` tells them, and they hold should anybody take our program away.
// systemd knows a list of what is allowed and nothing else. For rules that no such list
// says exactly there are none, and our program alone holds: a list that is too narrow
// would come in force beside it with the next daemon-reload.
func unitDevices(rules []deviceRule, version int) []systemd.Property {
	list, ok := allowList(rules)
	if !ok || allowAll(rules) || version < systemd.SinceDeviceNumbers {
		return nil
	}
	devices := make([]systemd.Device, len(list))
	for i, r := range list {
		devices[i] = systemd.Device{Path: r.devicePath(), Access: r.letters()}
	}
	return systemd.OnlyDevices(devices)
}

// allowList brings rules into the form of a list of what is allowed, everything else
// being denied: each rule about devices of one type, and none about one minor number of
// every major. ok is false if there is no such list.
func allowList(rules []deviceRule) (list []deviceRule, ok bool) {
	for _, r := range rules {
		switch {
		case r.unlimited() && !r.allow:
			list = nil
		case r.allow:
			for _, one := range bothTypes(r) {
				list = allow(list, one)
			}
		case slices.ContainsFunc(list, r.touches):
			return nil, false
		}
	}
	return list, !slices.ContainsFunc(list, func(r deviceRule) bool { return r.major == anyNumber && r.minor != anyNumber })
}

// bothTypes is a rule as one for each type of device that it is about.
func bothTypes(r deviceRule) []deviceRule {
	if r.kind != anyType {
		return []deviceRule{r}
	}
	block, char := r, r
	block.kind, char.kind = blockType, charType
	return []deviceRule{block, char}
}

// allow adds a rule to a list, which holds each device once.
func allow(list []deviceRule, r deviceRule) []deviceRule {
	for i := range list {
		if old := &list[i]; old.kind == r.kind && old.major == r.major && old.minor == r.minor {
			old.access |= r.access
			return list
		}
	}
	return append(list, r)
}

// touches tells whether there is an access to a device that both rules are about.
func (r deviceRule) touches(other deviceRule) bool {
	meet := func(a, b int64) bool { return a == b || a == anyNumber || b == anyNumber }
	return (r.kind == anyType || other.kind == anyType || r.kind == other.kind) &&
		meet(r.major, other.major) && meet(r.minor, other.minor) && r.access&other.access != 0
}

// devicePath is what systemd calls the devices of a rule (systemd.resource-control(5),
// DeviceAllow): a node by its numbers, whether it is there or not; all of a major number;
// or all of a type.
func (r deviceRule) devicePath() string {
	kind := [...]string{blockType: "block", charType: "char"}[r.kind]
	switch {
	case r.major == anyNumber:
		return kind + "-*"
	case r.minor == anyNumber:
		return fmt.Sprintf("%s-%d", kind, r.major)
	}
	return fmt.Sprintf("/dev/%s/%d:%d", kind, r.major, r.minor)
}
