package router

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/xfeldman/aegisvm/vmm/dialer"
)

// guest leads to the programs of one machine: over streams of the machine, and
// to its own address where it has one, which costs less. It lives as long as
// somebody uses it.
type guest struct {
	dialer *dialer.Dialer
	addr   netip.Addr // not valid where it has none
	over   context.Context

	mu    sync.Mutex // guards the fields below
	uses  int
	aside map[int]*aside // ports whose program was not on its address
}

// aside is for how long a port is not looked for on its guest's address: where
// a program starts it may be there soon, on the loopback it stays.
type aside struct {
	until time.Time
	pause time.Duration
}

// newGuest makes a guest with one use.
func newGuest(d *dialer.Dialer, addr netip.Addr) *guest {
	over, cancel := context.WithCancel(context.Background())
	g := &guest{dialer: d, addr: addr, over: over, uses: 1, aside: map[int]*aside{}}
	go func() { // ends with the machine or the last use
		<-d.Done()
		cancel()
	}()
	return g
}

// use begins a use, unless the last one has ended meanwhile.
func (g *guest) use() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.uses == 0 {
		return false
	}
	g.uses++
	return true
}

// drop ends a use.
func (g *guest) drop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.uses--; g.uses == 0 {
		g.dialer.Close()
	}
}

// How long a program may take to answer on its guest's address, and how long
// one that does not is left to the guest at first and at last.
const (
	directTime    = 3 * time.Second
	shortestAside = 100 * time.Millisecond
	longestAside  = 10 * time.Second
)

// direct connects to the guest's own address; nil says that the guest is to be
// asked. release ends the use that comes with a connection.
func (g *guest) direct(ctx context.Context, p Port) (c *net.TCPConn, release func()) {
	if !g.addr.IsValid() || p.key().udp || g.isAside(p.GuestPort) {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, directTime)
	defer cancel()
	c, err := directly.DialTCP(ctx, "tcp4", netip.AddrPort{}, netip.AddrPortFrom(g.addr, uint16(p.GuestPort)))
	if err != nil {
		g.putAside(p.GuestPort)
		return nil, nil
	}
	// The address may be another machine's by now, but only if ours is gone.
	if !g.dialer.Alive() || !g.use() {
		c.Close()
		return nil, nil
	}
	stop := context.AfterFunc(g.over, func() { c.SetDeadline(time.Now().Add(lastBytes)) })
	return c, func() {
		stop()
		g.drop()
	}
}

// lastBytes is how long what a machine had said when it ended is carried on.
const lastBytes = 3 * time.Second

// directly dials guests. One that is paused answers nothing for as long as it
// likes: its connections end with it, not with the kernel's patience.
var directly = net.Dialer{KeepAlive: -1, Control: patient}

func (g *guest) isAside(port int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.aside[port]
	return a != nil && time.Now().Before(a.until)
}

func (g *guest) putAside(port int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.aside[port]
	if a == nil {
		a = &aside{}
		g.aside[port] = a
	}
	a.pause = min(max(2*a.pause, shortestAside), longestAside)
	a.until = time.Now().Add(a.pause)
}
