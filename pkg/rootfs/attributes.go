package rootfs

import (
	"golang.org/x/sys/unix"

	"box/pkg/launch"
)

// addAttributes changes a copied mount before anybody sees it: first the mount itself,
// then with all that lie below it.
func (r *Rootfs) addAttributes(p *launch.Plan, m *mount, fd launch.Slot) {
	r.addTopAttributes(p, m, fd)
	all := unix.MountAttr{Attr_set: m.setAll, Attr_clr: m.clearAll}
	if m.propagateAll {
		all.Propagation = m.propagation
	}
	if all != (unix.MountAttr{}) {
		p.Add(setattr(fd, true, all, m.name()+": set attributes of all mounts", "before it is attached: nobody sees it without them"))
	}
}

// addTopAttributes gives the mount itself what its words say, and takes from it what
// they imply. What a user namespace may not take away stays, unless a word asks for
// it by name: then the mount fails rather than be another than was asked for.
func (r *Rootfs) addTopAttributes(p *launch.Plan, m *mount, fd launch.Slot) {
	const why = "before it is attached: nobody sees it without them"
	name, implied := m.name()+": set attributes", m.implied()
	top := unix.MountAttr{Attr_set: m.set, Attr_clr: m.clear | implied}
	if !m.propagateAll {
		top.Propagation = m.propagation
	}
	if top == (unix.MountAttr{}) {
		return
	}
	if !r.confined || implied&lockable == 0 {
		p.Add(setattr(fd, false, top, name, why))
		return
	}
	done, locked := p.Label(), p.Label()
	s := setattr(fd, false, top, name, why)
	s.Allow, s.Then = []launch.Allow{{Errno: unix.EPERM, To: locked}}, done
	p.Add(s)
	p.Place(locked)
	for bit := uint64(1); bit <= implied; bit <<= 1 {
		if implied&lockable&bit != 0 {
			s := setattr(fd, false, unix.MountAttr{Attr_clr: bit}, name, "what is locked from outside and not asked for by name stays as it is")
			s.Allow = []launch.Allow{{Errno: unix.EPERM}}
			p.Add(s)
		}
	}
	top.Attr_clr &^= implied & lockable
	p.Add(setattr(fd, false, top, name, "what is asked for by name must be so"))
	p.Place(done)
}
