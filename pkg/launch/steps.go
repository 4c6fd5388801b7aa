package launch

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Fail makes a step that ends the program with the given errno: where jumps lead
// when no case has matched.
func Fail(name, why string, errno unix.Errno) Step {
	return Step{Name: name, Why: why, Call: Set, Args: Args{Int(-int64(errno))}}
}

// Mark adds a report that the program has come this far; Process.Report returns its
// name. It uses write(2) only, so it passes strict seccomp filters.
func (p *Plan) Mark(name, why string) {
	b := make([]byte, RecordSize)
	binary.LittleEndian.PutUint32(b, uint32(len(p.steps)))
	record := Bytes(b, func() string { return "{mark}" })
	p.Add(Step{Name: name, Why: why, Call: Write, Args: Args{Report, record, Int(RecordSize)}})
}

// MarkValue adds a report like Mark's that also carries the low 32 bits of a slot:
// Process.ReportValue returns them. It is for numbers that only the program knows, such
// as that of a descriptor that the parent is to fetch with pidfd_getfd(2).
func (p *Plan) MarkValue(name, why string, value Slot) {
	b := make([]byte, RecordSize)
	record := Bytes(b, func() string { return "{mark, $" + p.slotName(value) + "}" })
	p.Add(Step{
		Name: name, Why: "the value is known only now", Call: Store, Args: Args{record.At(4), value},
	})
	binary.LittleEndian.PutUint32(b, uint32(len(p.steps))|hasValue)
	p.Add(Step{Name: name, Why: why, Call: Write, Args: Args{Report, record, Int(RecordSize)}})
}

// Await adds a wait for one byte from descriptor fd, which the other side writes to
// let the program go on. End of file (the other side is dead) is a failure with
// ECANCELED. It uses read(2) only.
func (p *Plan) Await(fd Arg, name, why string) {
	n := p.Slot("bytes read")
	p.Add(
		Step{Name: name, Why: why, Call: Read, Args: Args{fd, Buffer("byte", 8), Int(1)}, Into: n},
		Step{
			Name: name, Why: "no byte means that whoever had to give the word is gone",
			Call: Expect, Args: Args{n, Int(-1), Int(1), Int(unix.ECANCELED)},
		},
	)
}

// ExpectWord adds the check that the 32-bit word at addr, masked, equals want; if not
// the program fails with errno, or goes on where allow says.
func (p *Plan) ExpectWord(name, why string, addr Arg, mask, want uint32, errno unix.Errno, allow ...Allow) {
	word := p.Slot("word")
	p.Add(
		Step{Name: name, Why: why, Call: Load, Args: Args{addr}, Into: word},
		Step{
			Name: name, Why: why, Call: Expect, Allow: allow,
			Args: Args{word, Int(mask), Int(want), Int(errno)},
		},
	)
}
