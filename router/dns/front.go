package dns

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/xfeldman/aegisvm/router"
)

// FrontConfig is what a Front stands on.
type FrontConfig struct {
	Options
	// Keeper keeps sockets over the death of this process, nil where nobody
	// does; Kept are those that TakeKept found, which become the front's.
	Keeper router.Keeper
	Kept   map[string]*os.File
}

// Front answers at port 53 of the gateways that guests have.
type Front struct {
	FrontConfig
	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu   sync.Mutex // guards open
	open map[netip.Addr]context.CancelFunc
}

// NewFront answers at once where sockets were kept, until Close; Set says where
// else.
func NewFront(c FrontConfig) *Front {
	if c.Keeper == nil {
		c.Keeper = router.NoKeeper{}
	}
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler)).With("component", "dns")
	f := &Front{FrontConfig: c, open: map[netip.Addr]context.CancelFunc{}}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.mu.Lock()
	defer f.mu.Unlock()
	for name := range c.Kept {
		addr, err := netip.ParseAddr(strings.TrimPrefix(strings.TrimPrefix(name, keptUDP), keptTCP))
		if err != nil || f.open[addr] != nil {
			continue
		}
		s, err := takeOver(c.Kept, addr)
		if err != nil {
			f.Log.Warn("kept sockets are opened anew", "addr", addr, "error", err, "dropped", drop(c.Keeper, addr))
			continue
		}
		f.start(addr, func(ctx context.Context) { f.serve(ctx, s) })
	}
	f.Kept = nil
	return f
}

// Close ends all that is open here; a keeper still has it.
func (f *Front) Close() {
	f.cancel()
	f.tasks.Wait()
}

// Set says which gateways guests have now.
func (f *Front) Set(gateways []netip.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for addr, end := range f.open {
		if slices.Contains(gateways, addr) {
			continue
		}
		end()
		delete(f.open, addr)
		if err := drop(f.Keeper, addr); err != nil {
			f.Log.Warn("closed sockets are kept", "addr", addr, "error", err)
		}
	}
	for _, addr := range gateways {
		if f.open[addr] == nil {
			f.start(addr, func(ctx context.Context) { f.answer(ctx, addr) })
		}
	}
}

// start runs what belongs to one address; the caller holds mu.
func (f *Front) start(addr netip.Addr, do func(context.Context)) {
	ctx, cancel := context.WithCancel(f.ctx)
	done := make(chan struct{})
	f.open[addr] = func() { cancel(); <-done } // its address may be wanted again at once
	f.tasks.Go(func() {
		defer close(done)
		do(ctx)
	})
}

// The pauses between attempts to open a port that somebody else has: nothing
// tells when they let go of it.
const firstPause, maxPause = time.Second, 30 * time.Second

// answer opens the sockets of an address, sooner or later, and serves them.
func (f *Front) answer(ctx context.Context, addr netip.Addr) {
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		s, err := listen(ctx, addr)
		if err == nil {
			if err := s.keep(f.Keeper, addr); err != nil {
				f.Log.Warn("nobody keeps the sockets", "addr", addr, "error", err)
			}
			f.serve(ctx, s)
			return
		}
		f.Log.Error("guests have no resolver", "addr", addr, "error", err, "again", pause)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

func (f *Front) serve(ctx context.Context, s sockets) {
	if err := Serve(ctx, f.Options, s.udp, s.tcp); err != nil {
		f.Log.Error("guests have no resolver any more", "addr", s.udp.LocalAddr(), "error", err)
	}
}
