// Package routertest has what tests of routers need: guests that are this
// machine's own loopback, and the contract of router.Router as tests.
package routertest

import (
	"context"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/guest/proto/forward"
	"github.com/xfeldman/aegisvm/router"
	"github.com/xfeldman/aegisvm/vmm/dialer"
	"github.com/xfeldman/aegisvm/vmm/packet"
)

// Guests is a router.Waker. The ports of its guests are those of this
// machine's loopback.
type Guests struct {
	// Refuse, if not nil, is what a wake comes to.
	Refuse func(instance string, renew bool) error
	// Gate, if not nil, is waited for by each wake.
	Gate chan struct{}
	// Started is when programs were.
	Started time.Time
	// Address, if valid, is where guests can be dialled themselves.
	Address netip.Addr

	ctx   context.Context
	tasks sync.WaitGroup

	mu     sync.Mutex // guards the fields below
	wakes  int
	dials  int
	leases map[*net.UnixConn]bool
	used   chan int
}

// NewGuests makes guests that live as long as the test.
func NewGuests(t testing.TB) *Guests {
	ctx, cancel := context.WithCancel(context.Background())
	g := &Guests{ctx: ctx, leases: map[*net.UnixConn]bool{}, used: make(chan int, 10_000)}
	t.Cleanup(func() {
		cancel()
		g.EndLeases()
		g.tasks.Wait()
	})
	return g
}

// Wake implements router.Waker.
func (g *Guests) Wake(ctx context.Context, instance string, renew bool) (router.Awake, error) {
	if g.Gate != nil {
		select {
		case <-g.Gate:
		case <-ctx.Done():
			return router.Awake{}, ctx.Err()
		}
	}
	if g.Refuse != nil {
		if err := g.Refuse(instance, renew); err != nil {
			return router.Awake{}, err
		}
	}
	lease, theirLease, err := packet.Pair()
	if err != nil {
		return router.Awake{}, err
	}
	dials, theirDials, err := packet.Pair()
	if err != nil {
		return router.Awake{}, err
	}
	if err := packet.Send(lease, router.LeaseState{}); err != nil {
		return router.Awake{}, err
	}
	g.mu.Lock()
	g.leases[lease] = true
	if !renew {
		g.wakes++
	}
	g.mu.Unlock()
	ctx, cancel := context.WithCancel(g.ctx)
	g.tasks.Go(func() { g.follow(lease, cancel) })
	g.tasks.Go(func() { dialer.Serve(ctx, dials, g.dial) })
	return router.Awake{Lease: theirLease, Dialer: theirDials, Address: g.Address, Started: g.Started}, nil
}

// follow hears what a router says of a lease, and ends its guest with it.
func (g *Guests) follow(lease *net.UnixConn, end func()) {
	defer end()
	for {
		var use router.LeaseUse
		if _, err := packet.Receive(lease, &use); err != nil {
			break
		}
		g.tell(use.Connections)
	}
	lease.Close()
	g.mu.Lock()
	delete(g.leases, lease)
	g.mu.Unlock()
	g.tell(-1)
}

// tell tells AwaitUse, which may have stopped listening long ago.
func (g *Guests) tell(n int) {
	select {
	case g.used <- n:
	default:
	}
}

func (g *Guests) dial(context.Context) (*os.File, error) {
	ours, theirs, err := packet.StreamPair()
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	g.dials++
	g.mu.Unlock()
	g.tasks.Go(func() { forward.Server{}.Serve(g.ctx, ours) })
	return theirs, nil
}

// Wakes tells how often an instance was woken.
func (g *Guests) Wakes() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.wakes
}

// Dials tells how many streams were asked for.
func (g *Guests) Dials() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.dials
}

// Leases tells how many leases are held.
func (g *Guests) Leases() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.leases)
}

// Tell says over all leases whether their instances sleep.
func (g *Guests) Tell(asleep bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for l := range g.leases {
		packet.Send(l, router.LeaseState{Asleep: asleep})
	}
}

// EndLeases ends all leases, as the death of aegisd does.
func (g *Guests) EndLeases() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for l := range g.leases {
		l.CloseRead()
		l.CloseWrite()
	}
}

// AwaitUse waits until a lease is used by so many connections; -1 is its end.
func (g *Guests) AwaitUse(t testing.TB, want int) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		select {
		case n := <-g.used:
			if n == want {
				return
			}
		case <-limit:
			t.Fatalf("no lease is used by %d connections", want)
		}
	}
}

// Listen serves TCP on the loopback, as a program in a guest, until the test
// ends, and tells the port.
func Listen(t testing.TB, serve func(*net.TCPConn)) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				serve(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	return l.Addr().(*net.TCPAddr).Port
}

// Expose is a port of an instance with the defaults.
func Expose(instance string, guest int, protocol api.Protocol) router.Port {
	return router.Port{Instance: instance, Expose: api.Expose{GuestPort: guest, Protocol: protocol}.WithDefaults()}
}
