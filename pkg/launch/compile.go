package launch

import (
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"box/internal/errdefs"
)

//go:generate interp/assemble.sh

//go:embed interp/amd64.bin
var interpAMD64 []byte

//go:embed interp/arm64.bin
var interpARM64 []byte

// Arch is a machine that programs can be compiled for, by GOARCH's name.
type Arch string

// HostArch is the machine that this process runs on.
const HostArch = Arch(runtime.GOARCH)

// Layout of the program's data; interp/amd64.S tells it in words.
const (
	headerSize = 24 // first step, end of steps, report record
	slotSize   = 8
	stepSize   = 80
	maxSteps   = 1<<15 - 1 // skips are signed 16-bit numbers
	maxArgs    = 6
	discard    = 0 // binary number of the slot that nobody reads
)

// Compile lays the plan out as a static ELF program for arch. It fails on plans that
// refer to what is not there: an unplaced label, a slot that no step stores to.
func Compile(p *Plan, arch Arch) ([]byte, error) {
	c := compiler{plan: p, data: make(map[*Data]uint64, len(p.steps)/4)}
	if err := c.check(arch); err != nil {
		return nil, err
	}
	c.layout()
	if c.err != nil {
		return nil, c.err
	}
	putHeader(c.out, arch)
	return c.out, nil
}

// compiler holds what is laid out so far. The file's first dataOffset bytes are kept
// free for what stands before the data.
type compiler struct {
	plan *Plan
	arch Arch
	out  []byte
	data map[*Data]uint64
	err  error
}

// fail keeps the first error.
func (c *compiler) fail(i int, format string, a ...any) {
	if c.err == nil {
		step := fmt.Sprintf("compile step %d (%s): ", i, c.plan.steps[i].Name)
		c.err = errdefs.New(errdefs.ErrInvalid, "%s%s", step, fmt.Sprintf(format, a...))
	}
}

// check refuses what cannot be encoded at all.
func (c *compiler) check(arch Arch) error {
	if arch != "amd64" && arch != "arm64" {
		return errdefs.New(errdefs.ErrUnsupported, "compile plan: no interpreter for %s", arch)
	}
	if n := len(c.plan.steps); n > maxSteps {
		return errdefs.New(errdefs.ErrInvalid, "compile plan: %d steps are more than %d", n, maxSteps)
	}
	if c.plan.ReportFD < 3 {
		return errdefs.New(errdefs.ErrInvalid, "compile plan: report descriptor is %d, below 3", c.plan.ReportFD)
	}
	c.arch = arch
	return nil
}

// layout places header, slots and steps first, then the data as steps refer to it.
func (c *compiler) layout() {
	slots := int(firstSlot) + len(c.plan.slots)
	first := dataOffset + headerSize + slotSize*slots
	end := first + stepSize*len(c.plan.steps)
	c.out = make([]byte, end, end+end/2) // a container's texts are a third of its steps
	putWords(c.out[dataOffset:], address(first), address(end))
	putWords(c.out[dataOffset+headerSize+slotSize*int(Report):], uint64(c.plan.ReportFD))
	written := c.written()
	for i := range c.plan.steps {
		c.step(i, first+stepSize*i, written)
	}
}

// address is where offset off of the file's data comes to lie in memory.
func address(off int) uint64 { return dataAddr - dataOffset + uint64(off) }

// written says which slots some step stores to.
func (c *compiler) written() []bool {
	w := make([]bool, int(firstSlot)+len(c.plan.slots))
	w[Report] = true
	for i := range c.plan.steps {
		if into := c.plan.steps[i].Into; int(into) < len(w) {
			w[into] = true
		} else {
			c.fail(i, "result goes to slot %d, which the plan does not have", into)
		}
	}
	return w
}

// step encodes one step at offset off of c.out. Placing data may move c.out, so
// everything is gathered first.
func (c *compiler) step(i, off int, written []bool) {
	s := &c.plan.steps[i]
	if !s.Call.known() || len(s.Allow) > MaxAllow {
		c.fail(i, "call %v with %d tolerated errors cannot be encoded", s.Call, len(s.Allow))
		return
	}
	var args [maxArgs]uint64
	mask := byte(0)
	for n, a := range s.Args {
		if a == nil {
			continue
		}
		if slot, ok := a.(Slot); ok {
			if slot == discard || int(slot) >= len(written) || !written[slot] {
				c.fail(i, "argument %d is slot %q, which no step stores to", n+1, c.plan.slotName(slot))
			}
			mask |= 1 << n
		}
		args[n] = c.value(a)
	}
	b := c.out[off : off+stepSize]
	binary.LittleEndian.PutUint32(b, c.number(s.Call))
	b[4] = mask
	binary.LittleEndian.PutUint16(b[6:], uint16(s.Into))
	putWords(b[8:], args[:]...)
	for n, a := range s.Allow {
		binary.LittleEndian.PutUint16(b[56+4*n:], uint16(a.Errno))
		binary.LittleEndian.PutUint16(b[58+4*n:], c.skip(i, a.To))
	}
	binary.LittleEndian.PutUint16(b[72:], c.skip(i, s.Then))
	binary.LittleEndian.PutUint16(b[74:], uint16(i))
}

// number is the call's number on the program's architecture.
func (c *compiler) number(call Call) uint32 {
	if c.arch == "arm64" {
		return calls[call].arm64
	}
	return calls[call].amd64
}

// skip is how many steps the interpreter leaves out to come from step i to label l.
func (c *compiler) skip(i int, l Label) uint16 {
	if c.plan.target(l, i) < 0 {
		c.fail(i, "jumps to label %d, which was never placed", l)
		return 0
	}
	return uint16(int16(c.plan.target(l, i) - i - 1))
}

// value is what stands in the step for an argument: its bits, an address, or the
// number of a slot.
func (c *compiler) value(a Arg) uint64 {
	switch a := a.(type) {
	case Int:
		return uint64(a)
	case Slot:
		return uint64(a)
	case Text:
		return c.placeText(a)
	case *Data:
		return c.placeData(a)
	case at:
		c.within(a.data, a.off, 1)
		return c.placeData(a.data) + uint64(a.off)
	case quitter:
		return codeAddr + codeOffset + uint64(len(interpreter(c.arch))) - quitSize
	}
	return 0 // no other type can implement Arg; nil means 0
}

// within refuses n bytes at off that do not lie in the data: a step would read, or write
// to, what belongs to others.
func (c *compiler) within(d *Data, off, n int) {
	if off < 0 || off+n > len(d.bytes) {
		c.err = errors.Join(c.err, errdefs.New(errdefs.ErrInvalid, "compile plan: byte %d of %v, which has %d", off+n-1, d, len(d.bytes)))
	}
}

// placeText refuses a text with a NUL inside: the kernel would take the part before
// it for the whole, unseen.
func (c *compiler) placeText(t Text) uint64 {
	if strings.IndexByte(string(t), 0) >= 0 {
		c.err = errors.Join(c.err, errdefs.New(errdefs.ErrInvalid, "compile plan: text %q holds a NUL byte", t))
	}
	addr := address(len(c.out))
	c.out = append(append(c.out, t...), 0)
	return addr
}

// placeData places d, and then what it points to.
func (c *compiler) placeData(d *Data) uint64 {
	if addr, ok := c.data[d]; ok {
		return addr
	}
	for len(c.out)%8 != 0 {
		c.out = append(c.out, 0)
	}
	off := len(c.out)
	addr := address(off)
	c.data[d] = addr
	c.out = append(c.out, d.bytes...)
	for _, p := range d.pointer {
		if c.within(d, p.off, 8); c.err != nil {
			break
		}
		target := c.value(p.target) // may move c.out
		putWords(c.out[off+p.off:], target)
	}
	return addr
}
