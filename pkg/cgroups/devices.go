package cgroups

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"box/internal/errdefs"
)

// SetDevices makes the kernel ask the rules at every open and mknod of a device
// file by a process of the group.
//
// The rules are those of linux.resources.devices: applied in their order, the
// last that matches decides, and what none matches is denied (a list is never
// taken as exceptions from "everything", GHSA-g54h-m393-cpwq). Behind them come
// the devices that every container has (the specification's default devices, the
// pseudo terminals, and mknod of anything), as in runc.
//
// The program is attached with BPF_F_ALLOW_MULTI: rules of groups above hold as
// well. It lives as long as the group.
func (c *Cgroup) SetDevices(rules []specs.LinuxDeviceCgroup) error {
	parsed, err := parseRules(rules)
	if err != nil {
		return err
	}
	if c.none {
		return nil // nothing can be opened that our user cannot open: rootless
	}
	if c.root == "" {
		return c.setDevicesLegacy(parsed)
	}
	err = c.attachDevices(parsed)
	if c.rootless && errors.Is(err, unix.EPERM) {
		// bpf(2) is root's. A user cannot make device files, and opens those that
		// there are by their own modes.
		return nil
	}
	return err
}

func (c *Cgroup) attachDevices(parsed []deviceRule) error {
	dir, err := c.File()
	if err != nil {
		return err
	}
	defer dir.Close()
	attached, err := attachedPrograms(dir)
	if err != nil {
		return fmt.Errorf("query device rules of cgroup %s: %w", c.path, err)
	}
	if allowAll(parsed) && len(attached) == 0 {
		return nil // a group without a program has no rules
	}
	if err := attachRules(dir, deviceProgram(parsed), attached); err != nil {
		return fmt.Errorf("set device rules of cgroup %s: %w", c.path, err)
	}
	return nil
}

// Types and kinds of access as the kernel numbers them (linux/bpf.h, BPF_DEVCG).
const (
	anyType   = 0
	blockType = 1
	charType  = 2

	accessMknod = 1
	accessRead  = 2
	accessWrite = 4
	accessAll   = accessMknod | accessRead | accessWrite
)

// anyNumber stands for every major or minor number.
const anyNumber = -1

// deviceRule is a checked rule.
type deviceRule struct {
	allow        bool
	kind         int32
	major, minor int64
	access       int32
}

// unlimited tells whether a rule is about every access to every device.
func (r deviceRule) unlimited() bool {
	return r.kind == anyType && r.major == anyNumber && r.minor == anyNumber && r.access == accessAll
}

// defaultRules are what every container may do: see SetDevices.
var defaultRules = []deviceRule{
	{true, charType, anyNumber, anyNumber, accessMknod},
	{true, blockType, anyNumber, anyNumber, accessMknod},
	{true, charType, 1, 3, accessAll},           // null
	{true, charType, 1, 5, accessAll},           // zero
	{true, charType, 1, 7, accessAll},           // full
	{true, charType, 1, 8, accessAll},           // random
	{true, charType, 1, 9, accessAll},           // urandom
	{true, charType, 5, 0, accessAll},           // tty
	{true, charType, 5, 2, accessAll},           // ptmx
	{true, charType, 136, anyNumber, accessAll}, // pts/N
}

// parseRules checks rules and adds the default ones.
func parseRules(rules []specs.LinuxDeviceCgroup) ([]deviceRule, error) {
	parsed := make([]deviceRule, 0, len(rules)+len(defaultRules))
	for i := range rules {
		r, err := parseRule(&rules[i])
		if err != nil {
			return nil, errdefs.New(errdefs.ErrInvalid, "linux.resources.devices[%d].%w", i, err)
		}
		parsed = append(parsed, r)
	}
	return append(parsed, defaultRules...), nil
}

func parseRule(d *specs.LinuxDeviceCgroup) (deviceRule, error) {
	r := deviceRule{allow: d.Allow, major: anyNumber, minor: anyNumber}
	switch d.Type {
	case "", "a":
		r.kind = anyType
	case "b":
		r.kind = blockType
	case "c", "u":
		r.kind = charType
	default:
		return r, errdefs.New(errdefs.ErrInvalid, "type: unknown device type %q, want a, b or c", d.Type)
	}
	for _, n := range []struct {
		name string
		from *int64
		to   *int64
	}{{"major", d.Major, &r.major}, {"minor", d.Minor, &r.minor}} {
		if n.from == nil {
			continue
		}
		if *n.from < anyNumber || *n.from > 1<<32-1 {
			return r, errdefs.New(errdefs.ErrInvalid, "%s: %d is not a device number", n.name, *n.from)
		}
		*n.to = *n.from
	}
	access, err := parseAccess(d.Access)
	r.access = access
	return r, err
}

// parseAccess reads letters of "rwm"; none means all of them.
func parseAccess(s string) (int32, error) {
	if s == "" {
		return accessAll, nil
	}
	var access int32
	for _, letter := range s {
		if letter == 'a' {
			continue // which means nothing here, but is seen; runc takes it so
		}
		i := strings.IndexRune("mrw", letter) // in the order of the kernel's bits
		if i < 0 {
			return 0, errdefs.New(errdefs.ErrInvalid, "access: unknown letter %q in %q, want r, w or m", letter, s)
		}
		access |= 1 << i
	}
	return access, nil
}

// allowAll tells whether rules deny nothing: the last one about everything allows,
// and none denies after it.
func allowAll(rules []deviceRule) bool {
	for _, r := range slices.Backward(rules) {
		if !r.allow {
			return false
		}
		if r.unlimited() {
			return true
		}
	}
	return false
}

// The calls below are bpf(2) by hand. The program has a dozen kinds of
// instruction and no maps, for which a library is a poor bargain in a binary that
// has to start in a millisecond.

// attachedPrograms returns the ids of the device programs of a group itself.
func attachedPrograms(dir *os.File) ([]uint32, error) {
	ids := make([]uint32, 64) // the kernel's BPF_CGROUP_MAX_PROGS
	var pin runtime.Pinner
	pin.Pin(&ids[0])
	defer pin.Unpin()
	attr := struct {
		target, attachType, queryFlags, attachFlags uint32
		ids                                         uint64
		count                                       uint32
		_                                           [100]byte // kernels write fields of later releases
	}{
		target: uint32(dir.Fd()), attachType: unix.BPF_CGROUP_DEVICE,
		ids: address(&ids[0]), count: uint32(len(ids)),
	}
	_, err := bpf(unix.BPF_PROG_QUERY, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	return ids[:attr.count], err
}

// attachRules loads a program and puts it in the place of those attached. If
// there is one it is replaced in one step; of several, which only others can
// have put there, all are removed after the new one is in force.
func attachRules(dir *os.File, code []uint64, attached []uint32) error {
	program, err := loadProgram(code)
	if err != nil {
		return err
	}
	defer unix.Close(program)
	attr := struct{ target, program, attachType, flags, replace uint32 }{
		target: uint32(dir.Fd()), program: uint32(program),
		attachType: unix.BPF_CGROUP_DEVICE, flags: unix.BPF_F_ALLOW_MULTI,
	}
	var old []int
	defer func() {
		for _, fd := range old {
			unix.Close(fd)
		}
	}()
	for _, id := range attached {
		fd, err := programByID(id)
		if err != nil {
			return err
		}
		old = append(old, fd)
	}
	if len(old) == 1 {
		attr.flags |= unix.BPF_F_REPLACE
		attr.replace = uint32(old[0])
	}
	if _, err := bpf(unix.BPF_PROG_ATTACH, unsafe.Pointer(&attr), unsafe.Sizeof(attr)); err != nil || len(old) < 2 {
		return err
	}
	return detachAll(dir, old)
}

func detachAll(dir *os.File, programs []int) error {
	for _, fd := range programs {
		attr := struct{ target, program, attachType uint32 }{uint32(dir.Fd()), uint32(fd), unix.BPF_CGROUP_DEVICE}
		if _, err := bpf(unix.BPF_PROG_DETACH, unsafe.Pointer(&attr), unsafe.Sizeof(attr)); err != nil {
			return err
		}
	}
	return nil
}

// loadProgram gives a program to the kernel. Its memory is charged to the memory
// cgroup (Linux 5.11), so RLIMIT_MEMLOCK, which may not be raisable, is no matter.
func loadProgram(code []uint64) (int, error) {
	license := []byte("Apache-2.0\x00") // uses no GPL-only helpers
	var pin runtime.Pinner
	pin.Pin(&code[0])
	pin.Pin(&license[0])
	defer pin.Unpin()
	attr := struct {
		programType, count uint32
		code, license      uint64
		logLevel, logSize  uint32
		log                uint64
		kernel, flags      uint32
		name               [16]byte
		_, attachType      uint32
	}{
		programType: unix.BPF_PROG_TYPE_CGROUP_DEVICE, count: uint32(len(code)),
		code: address(&code[0]), license: address(&license[0]),
		name: [16]byte{'b', 'o', 'x', '_', 'd', 'e', 'v', 'i', 'c', 'e', 's'}, attachType: unix.BPF_CGROUP_DEVICE,
	}
	return bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
}

func programByID(id uint32) (int, error) {
	attr := struct{ id, next, flags uint32 }{id: id}
	return bpf(unix.BPF_PROG_GET_FD_BY_ID, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
}

// address is a pointer as the kernel's structures hold it; the caller pins what it
// points to.
func address[T any](p *T) uint64 { return uint64(uintptr(unsafe.Pointer(p))) }

// bpf is bpf(2). The verifier gives up with EAGAIN when a signal arrives, such
// as those of Go's scheduler.
func bpf(command uintptr, attr unsafe.Pointer, size uintptr) (int, error) {
	for {
		n, _, errno := unix.Syscall(unix.SYS_BPF, command, uintptr(attr), size)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EAGAIN, unix.EINTR:
			continue
		}
		return -1, os.NewSyscallError("bpf", errno)
	}
}
