package plan

import (
	"strconv"
	"strings"

	"box/internal/errdefs"
)

// Mode changes the permissions of a file, as chmod does.
type Mode struct {
	octal   bool
	bits    uint32
	clauses []clause
}

// clause is one part of a symbolic mode: who, operator, permissions.
type clause struct {
	who   string // of "ugo"; all three if none was given
	op    byte
	perms string // of "rwxXst", or one of "ugo" to copy from
}

// ParseMode reads octal digits or a symbolic mode such as "u=rwX,go=rX".
func ParseMode(s string) (*Mode, error) {
	if n, err := strconv.ParseUint(s, 8, 32); err == nil {
		if n > 0o7777 {
			return nil, errdefs.New(errdefs.ErrInvalid, "%s is more than 7777", s)
		}
		return &Mode{octal: true, bits: uint32(n)}, nil
	}
	m := new(Mode)
	for _, part := range strings.Split(s, ",") {
		if err := m.parseClause(part); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *Mode) parseClause(part string) error {
	at := strings.IndexAny(part, "+-=")
	if at < 0 {
		return errdefs.New(errdefs.ErrInvalid, "%q is neither octal nor like u=rw,go+x", part)
	}
	who := strings.ReplaceAll(part[:at], "a", "ugo")
	if strings.Trim(who, "ugo") != "" {
		return errdefs.New(errdefs.ErrInvalid, "%q: %q is not among u, g, o and a", part, who)
	}
	if who == "" {
		who = "ugo"
	}
	for rest := part[at:]; rest != ""; {
		op := rest[0]
		end := strings.IndexAny(rest[1:], "+-=")
		if end < 0 {
			end = len(rest) - 1
		}
		perms := rest[1 : 1+end]
		if strings.Trim(perms, "rwxXst") != "" && perms != "u" && perms != "g" && perms != "o" {
			return errdefs.New(errdefs.ErrInvalid, "%q: %q is not made of r, w, x, X, s and t", part, perms)
		}
		m.clauses = append(m.clauses, clause{who: who, op: op, perms: perms})
		rest = rest[1+end:]
	}
	return nil
}

// Apply gives the permission bits (07777) that a file with these bits gets.
func (m *Mode) Apply(perm uint32, isDir bool) uint32 {
	if m.octal {
		return m.bits
	}
	for _, c := range m.clauses {
		perm = c.apply(perm, isDir)
	}
	return perm
}

func (c clause) apply(perm uint32, isDir bool) uint32 {
	var set, mask uint32
	for _, w := range c.who {
		shift := map[rune]uint{'u': 6, 'g': 3, 'o': 0}[w]
		set |= c.bits(perm, isDir) << shift
		mask |= 7 << shift
		set |= c.special(w)
		mask |= map[rune]uint32{'u': 0o4000, 'g': 0o2000, 'o': 0}[w]
	}
	if strings.Contains(c.perms, "t") {
		set |= 0o1000
	}
	switch c.op {
	case '+':
		return perm | set
	case '-':
		return perm &^ set
	}
	return perm&^mask | set
}

// bits gives the rwx bits of the clause, in the lowest three.
func (c clause) bits(perm uint32, isDir bool) uint32 {
	switch c.perms {
	case "u":
		return perm >> 6 & 7
	case "g":
		return perm >> 3 & 7
	case "o":
		return perm & 7
	}
	var b uint32
	for _, p := range c.perms {
		switch {
		case p == 'r':
			b |= 4
		case p == 'w':
			b |= 2
		case p == 'x', p == 'X' && (isDir || perm&0o111 != 0):
			b |= 1
		}
	}
	return b
}

// special gives the set-id bit that "s" means for this class.
func (c clause) special(who rune) uint32 {
	if !strings.Contains(c.perms, "s") {
		return 0
	}
	return map[rune]uint32{'u': 0o4000, 'g': 0o2000, 'o': 0}[who]
}
