package launch

import "golang.org/x/sys/unix"

// Arg is one argument of a step's system call: an Int, a Text, a Slot, a *Data, or
// an address inside a *Data (Data.At). (And one that only QuitOn uses.)
type Arg interface{ isArg() }

// Args are the arguments of a call, in order; missing ones are nil, and zero.
type Args [maxArgs]Arg

// count is the number of arguments up to the last that is there.
func (a *Args) count() int {
	n := maxArgs
	for n > 0 && a[n-1] == nil {
		n--
	}
	return n
}

// Int is a constant argument. Negative values such as AT_FDCWD are sign-extended.
type Int int64

// Text is the address of a NUL-terminated string in the program's data. Each has a place of
// its own: to find out which are equal takes longer than to write them.
type Text string

// Slot is a value that a step stores (Step.Into) and later steps take as argument:
// mostly a file descriptor. The zero Slot is no slot.
type Slot uint16

// Report is the slot that holds the descriptor to which failures are reported. A
// step may store into it to send later failures elsewhere.
const Report Slot = 1

func (Int) isArg()   {}
func (Text) isArg()  {}
func (Slot) isArg()  {}
func (*Data) isArg() {}
func (at) isArg()    {}

// Nil is the null pointer, and Cwd the directory descriptor that stands for the
// working directory.
const (
	Nil Int = 0
	Cwd Int = unix.AT_FDCWD
)

// Label names a place in a plan that steps may jump to. The zero Label is the step
// that follows.
type Label uint16

// Again is the label of the step itself, for calls that ask to be repeated: openat2
// says EAGAIN when a rename or a mount anywhere on the system disturbs its walk
// through "..".
const Again Label = 0xffff

// AnyErrno in an Allow matches every errno.
const AnyErrno = unix.Errno(0xffff)

// Allow is an errno that a step tolerates, and where the program goes on then: at
// the next step if To is zero.
type Allow struct {
	Errno unix.Errno
	To    Label
}

// MaxAllow is how many tolerated errnos one step can have.
const MaxAllow = 4

// Step is one system call with its meaning.
type Step struct {
	// Name is a verb with its object, lower case: it begins the error message when
	// the step fails.
	Name string
	// Why says why the step is there, or why it stands where it stands.
	Why string
	// Args are what the call takes.
	Args Args
	// Allow lists tolerated errnos; the first match counts.
	Allow []Allow
	// Call is the system call, or one of the pseudo-calls Set, Load, Store, Expect.
	Call Call
	// Into takes the result, also that of a tolerated failure (then -errno).
	Into Slot
	// Then is where the program goes on after success.
	Then Label
}

// Plan is the ordered list of steps of one program. The zero Plan is empty and ready
// for use, but for ReportFD. Running off its end ends the program with status 0.
type Plan struct {
	// ReportFD is the descriptor number at which the program finds the pipe for its
	// reports; Start puts it there. It must not be 0, 1 or 2.
	ReportFD int

	steps  []Step
	slots  []string // names, by slot number - firstSlot
	labels []int    // step number by label - 1; -1 until placed

	successor int // the step that reports a successor; 0 for none (it is never the first)
}

const firstSlot = Report + 1

// Steps returns the steps in order. The slice belongs to the plan.
func (p *Plan) Steps() []Step { return p.steps }

// Len is the number of steps so far, which is the number of the next one.
func (p *Plan) Len() int { return len(p.steps) }

// What an ordinary container's plan comes to, a little more than less: the copies that
// are left behind by what grows were a third of all memory that a start took.
const (
	usualSteps = 416
	usualNames = 128 // slots, labels
)

// Add appends steps.
func (p *Plan) Add(steps ...Step) {
	if p.steps == nil {
		p.steps = make([]Step, 0, usualSteps)
	}
	p.steps = append(p.steps, steps...)
}

// Slot makes a new slot. The name is for printing.
func (p *Plan) Slot(name string) Slot {
	if p.slots == nil {
		p.slots = make([]string, 0, usualNames)
	}
	p.slots = append(p.slots, name)
	return firstSlot + Slot(len(p.slots)-1)
}

// Label makes a new label, to be placed once.
func (p *Plan) Label() Label {
	if p.labels == nil {
		p.labels = make([]int, 0, usualNames)
	}
	p.labels = append(p.labels, -1)
	return Label(len(p.labels))
}

// Place puts the label before the next step to be added.
func (p *Plan) Place(l Label) { p.labels[l-1] = len(p.steps) }

// target returns the number of the step that l stands for, seen from step from.
func (p *Plan) target(l Label, from int) int {
	switch {
	case l == 0:
		return from + 1
	case l == Again:
		return from
	case int(l) > len(p.labels):
		return -1
	}
	return p.labels[l-1]
}

// slotName is how a slot is printed.
func (p *Plan) slotName(s Slot) string {
	switch {
	case s == Report:
		return "report"
	case s < firstSlot || int(s-firstSlot) >= len(p.slots):
		return "?"
	}
	return p.slots[s-firstSlot]
}
