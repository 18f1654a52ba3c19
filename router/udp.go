package router

import (
	"bufio"
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xfeldman/aegisvm/guest/proto/forward"
)

// What may wait for a guest: datagrams of a flow, and bytes of a port. What is
// beyond is lost, as datagrams are.
const (
	flowQueue = 64
	portQueue = 8 << 20
)

// flows are the clients of one port of UDP.
type flows struct {
	way
	conn   *net.UDPConn
	queued atomic.Int64 // bytes

	mu  sync.Mutex // guards all
	all map[netip.AddrPort]*flow
}

// flow is one client.
type flow struct {
	of    *flows
	from  netip.AddrPort
	queue chan []byte
	seen  atomic.Int64 // when the last datagram went either way, in ns
}

// receive carries datagrams until ctx ends.
func (w way) receive(ctx context.Context, c *net.UDPConn) {
	f := &flows{way: w, conn: c, all: map[netip.AddrPort]*flow{}}
	var tasks sync.WaitGroup
	defer tasks.Wait()
	b := make([]byte, forward.MaxDatagram)
	for {
		n, from, err := c.ReadFromUDPAddrPort(b)
		switch {
		case err != nil && (lasting(err) || ctx.Err() != nil):
			return
		case err != nil:
			if !wait(ctx, acceptPause) {
				return
			}
			continue
		}
		one, fresh := f.flow(from)
		if one == nil {
			continue
		}
		one.push(b[:n])
		if fresh {
			tasks.Go(func() { one.run(ctx) })
		}
	}
}

// flow finds the flow of a client or makes one; nil where there are too many.
func (f *flows) flow(from netip.AddrPort) (one *flow, fresh bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if one := f.all[from]; one != nil {
		return one, false
	}
	if len(f.all) >= f.limits.Flows {
		return nil, false
	}
	one = &flow{of: f, from: from, queue: make(chan []byte, flowQueue)}
	one.touch()
	f.all[from] = one
	return one, true
}

func (f *flow) touch() { f.seen.Store(time.Now().UnixNano()) }

// push queues a datagram for the guest, or loses it.
func (f *flow) push(b []byte) {
	if f.of.queued.Load() > portQueue {
		return
	}
	select {
	case f.queue <- append([]byte(nil), b...):
		f.of.queued.Add(int64(len(b)))
	default:
	}
}

// run carries one flow until it is idle, the guest ends it, or ctx.
func (f *flow) run(ctx context.Context) {
	defer f.end()
	guest, release, err := f.of.backend.connect(ctx, f.of.Port)
	if err != nil {
		f.of.log.Warn("a datagram is lost", "error", err)
		return
	}
	defer release()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { guest.Close() })
	defer stop()
	defer guest.Close()
	var back sync.WaitGroup
	defer back.Wait()
	back.Go(func() {
		defer cancel()
		f.back(guest)
	})
	f.forth(ctx, guest)
	guest.Close()
}

// end forgets the flow and what is queued for it.
func (f *flow) end() {
	f.of.mu.Lock()
	delete(f.of.all, f.from)
	f.of.mu.Unlock()
	for {
		select {
		case b := <-f.queue:
			f.of.queued.Add(-int64(len(b)))
		default:
			return
		}
	}
}

// forth carries datagrams to the guest until the flow is idle.
func (f *flow) forth(ctx context.Context, guest net.Conn) {
	idle := time.NewTimer(f.of.limits.FlowIdle)
	defer idle.Stop()
	for {
		select {
		case b := <-f.queue:
			f.of.queued.Add(-int64(len(b)))
			if forward.WriteDatagram(guest, b) != nil {
				return
			}
			f.touch()
		case <-idle.C:
			left := f.of.limits.FlowIdle - time.Since(time.Unix(0, f.seen.Load()))
			if left <= 0 {
				return
			}
			idle.Reset(left)
		case <-ctx.Done():
			return
		}
	}
}

// back carries datagrams to the client.
func (f *flow) back(guest net.Conn) {
	r := bufio.NewReader(guest)
	b := make([]byte, forward.MaxDatagram)
	for {
		n, err := forward.ReadDatagram(r, b)
		if err != nil {
			return
		}
		f.of.conn.WriteToUDPAddrPort(b[:n], f.from) // it may be lost
		f.touch()
	}
}
