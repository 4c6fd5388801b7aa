package launch

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"
)

// Print writes the plan for people: each step with its number, name, reason and
// system call as strace would show it, and where it goes on errors.
//
//	12  mount proc on /proc
//	    why   the command expects the processes of its own pid namespace there
//	    call  fsopen("proc", FSOPEN_CLOEXEC) -> $proc
//	    on    ENODEV: go to 20
func (p *Plan) Print(w io.Writer) error {
	b := bufio.NewWriter(w)
	for i := range p.steps {
		p.printStep(b, i)
	}
	return b.Flush()
}

// String is what Print writes.
func (p *Plan) String() string {
	var b strings.Builder
	_ = p.Print(&b) // a Builder takes everything
	return b.String()
}

func (p *Plan) printStep(b *bufio.Writer, i int) {
	s := &p.steps[i]
	fmt.Fprintf(b, "%3d  %s\n", i, s.Name)
	fmt.Fprintf(b, "     why   %s\n", s.Why)
	fmt.Fprintf(b, "     call  %s", p.callText(s))
	if s.Into != 0 {
		fmt.Fprintf(b, " -> $%s", p.slotName(s.Into))
	}
	b.WriteByte('\n')
	for _, a := range s.Allow {
		where := fmt.Sprintf("go to %d", p.target(a.To, i))
		if a.To == Again {
			where = "again"
		}
		fmt.Fprintf(b, "     on    %s: %s\n", errnoText(a.Errno), where)
	}
	if s.Then != 0 {
		fmt.Fprintf(b, "     then  go to %d\n", p.target(s.Then, i))
	}
}

func errnoText(e unix.Errno) string {
	if e == AnyErrno {
		return "any error"
	}
	if name := unix.ErrnoName(e); name != "" {
		return name
	}
	return fmt.Sprintf("errno %d", int(e))
}

// callText is the call with all arguments that it takes, those left out as 0.
func (p *Plan) callText(s *Step) string {
	if !s.Call.known() {
		return s.Call.String()
	}
	kinds := calls[s.Call].args
	parts := make([]string, max(len(kinds), s.Args.count()))
	for i := range parts {
		a := s.Args[i]
		if a == nil {
			a = Int(0)
		}
		kind := argInt
		if i < len(kinds) {
			kind = kinds[i]
		}
		parts[i] = p.argText(a, kind)
	}
	return s.Call.String() + "(" + strings.Join(parts, ", ") + ")"
}

func (p *Plan) argText(a Arg, kind argKind) string {
	switch a := a.(type) {
	case Slot:
		return "$" + p.slotName(a)
	case Text:
		return fmt.Sprintf("%q", string(a))
	case *Data:
		return a.String()
	case at:
		return fmt.Sprintf("%s+%d", a.data, a.off)
	case Int:
		return kind.text(int64(a))
	}
	return "?"
}
