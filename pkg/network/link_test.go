package network

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestSettledGivesTheErrorOfAListThatNeverSettles(t *testing.T) {
	tries := 0
	_, err := settled(func() ([]int, error) {
		tries++
		return nil, netlink.ErrDumpInterrupted
	})
	if !errors.Is(err, netlink.ErrDumpInterrupted) || tries != dumpTries {
		t.Errorf("after %d tries: %v", tries, err)
	}
	if got, err := settled(func() ([]int, error) {
		if tries--; tries > dumpTries-3 {
			return []int{1}, netlink.ErrDumpInterrupted
		}
		return []int{1, 2}, nil
	}); err != nil || !slices.Equal(got, []int{1, 2}) {
		t.Errorf("settled: %v, %v", got, err)
	}
}

// Other engines make links while we list them: the kernel then says that the list may
// be wrong, which is no reason to fail.
func TestListsWhileLinksComeAndGo(t *testing.T) {
	w := newWorld(t)
	w.in(w.host, func() { // more than the kernel writes in one go
		for i := range 100 {
			w.must(netlink.LinkAdd(bridge(fmt.Sprint("docker", 100+i))))
		}
	})
	done := make(chan struct{})
	ended := make(chan error, 1)
	go func() { ended <- inNamespace(w.host, func() error { return comeAndGo(done) }) }()
	w.in(w.host, func() {
		l, err := openLinks()
		w.must(err)
		defer l.Close()
		interrupted := 0
		for range 200 {
			if _, err := l.LinkList(); errors.Is(err, netlink.ErrDumpInterrupted) {
				interrupted++
			}
			_, err := l.orphans()
			w.must(err)
			_, err = l.taken()
			w.must(err)
		}
		t.Logf("%d of 200 lists were interrupted", interrupted)
	})
	close(done)
	w.must(<-ended)
}

// comeAndGo makes and removes a link with an address, and so a route, until done.
func comeAndGo(done <-chan struct{}) error {
	link := bridge("docker9") // not one that could be ours
	addr, err := netlink.ParseAddr("192.0.2.1/24")
	for err == nil {
		select {
		case <-done:
			return nil
		default:
			err = cmp.Or(netlink.LinkAdd(link), netlink.AddrAdd(link, addr), netlink.LinkSetUp(link), netlink.LinkDel(link))
		}
	}
	return err
}

func bridge(name string) *netlink.Bridge {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	return &netlink.Bridge{LinkAttrs: attrs}
}
