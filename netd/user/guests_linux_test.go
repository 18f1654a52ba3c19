package user_test

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/netd"
	"github.com/xfeldman/aegisvm/netd/policy"
	"github.com/xfeldman/aegisvm/netd/user"
	"github.com/xfeldman/aegisvm/netd/user/stack"
	"github.com/xfeldman/aegisvm/vmm/packet"
)

// plugged is a network whose machines have their stacks in this process, and
// taps that lead to them.
type plugged struct {
	*user.Network
	t       testing.TB
	mu      sync.Mutex // guards stacks
	stacks  map[string]*stack.Stack
	decided map[string]chan struct{} // gets one for each answer to a machine
}

func open(t testing.TB, o user.Options) *plugged {
	t.Helper()
	return &plugged{Network: openUser(t, o), t: t, stacks: map[string]*stack.Stack{}, decided: map[string]chan struct{}{}}
}

// headerSize is what comes before each frame on a tap, lengthSize on a link.
const headerSize, lengthSize = 10, 4

// OpenTap makes a stack for a machine, and a descriptor that is like its tap.
func (p *plugged) OpenTap(ctx context.Context, machine string) (*os.File, error) {
	guest, gateway, err := p.Link(ctx, machine)
	if err != nil {
		return nil, err
	}
	inner, outer := net.Pipe()
	s, err := stack.New(stack.Config{Guest: guest, Gateway: gateway, Link: inner, MTU: 1500, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	ours, theirs, err := packet.Pair()
	if err != nil {
		return nil, err
	}
	decided := make(chan struct{}, 10000)
	p.mu.Lock()
	p.stacks[machine], p.decided[machine] = s, decided
	p.mu.Unlock()
	p.attach(machine, s, decided)
	var all sync.WaitGroup
	all.Go(func() { toLink(outer, ours) })
	all.Go(func() { fromLink(ours, outer) })
	p.t.Cleanup(func() {
		ours.Close()
		outer.Close()
		s.Close()
		all.Wait()
	})
	return theirs, nil
}

// attach connects a stack with the network, by way of somebody who sees the
// answers.
func (p *plugged) attach(machine string, s *stack.Stack, decided chan<- struct{}) {
	stackEnd, a := pair(p.t)
	netEnd, b := pair(p.t)
	var all sync.WaitGroup
	all.Go(func() { s.Serve(context.Background(), stackEnd) })
	all.Go(func() { p.Serve(machine, netEnd) })
	all.Go(func() { pass(b, a, nil) })
	all.Go(func() { pass(a, b, decided) })
	p.t.Cleanup(func() {
		a.Close()
		b.Close()
		all.Wait()
	})
}

func pair(t testing.TB) (*net.UnixConn, *net.UnixConn) {
	t.Helper()
	a, f, err := packet.Pair()
	if err != nil {
		t.Fatal(err)
	}
	b, err := packet.Conn(f)
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

// pass passes packets on with their descriptors.
func pass(to, from *net.UnixConn, seen chan<- struct{}) {
	defer to.Close()
	var raw map[string]any
	for {
		raw = nil
		files, err := packet.Receive(from, &raw)
		if err != nil {
			return
		}
		err = packet.Send(to, raw, files...)
		packet.CloseAll(files)
		if err != nil {
			return
		}
		if seen != nil && raw["op"] == "open" {
			seen <- struct{}{}
		}
	}
}

func toLink(link io.Writer, tap *net.UnixConn) {
	buf := make([]byte, 70000)
	for {
		n, err := tap.Read(buf)
		if err != nil {
			return
		}
		frame := binary.BigEndian.AppendUint32(nil, uint32(n-headerSize))
		if _, err := link.Write(append(frame, buf[headerSize:n]...)); err != nil {
			return
		}
	}
}

func fromLink(tap *net.UnixConn, link io.Reader) {
	buf := make([]byte, headerSize+70000)
	var length [lengthSize]byte
	for {
		if _, err := io.ReadFull(link, length[:]); err != nil {
			return
		}
		n := headerSize + int(binary.BigEndian.Uint32(length[:]))
		if _, err := io.ReadFull(link, buf[headerSize:n]); err != nil {
			return
		}
		if _, err := tap.Write(buf[:n]); err != nil {
			return
		}
	}
}

// Behind waits until a frame that was taken is refused by its stack, or its
// packet by the network.
func (p *plugged) Behind(machine string) {
	for _, name := range policy.WireCounters {
		if counter(p.t, p, machine, name).Packets > p.seen(machine, name) {
			return
		}
	}
	p.mu.Lock()
	decided := p.decided[machine]
	p.mu.Unlock()
	select {
	case <-decided:
	case <-time.After(time.Second): // nobody refuses it
	}
}

// known is what Behind has seen of the counters of frames.
var known sync.Map

func (p *plugged) seen(machine, name string) uint64 {
	now := counter(p.t, p, machine, name).Packets
	before, _ := known.Swap(p.t.Name()+machine+name, now)
	if before == nil {
		return 0
	}
	return before.(uint64)
}

func counter(t testing.TB, n netd.Network, machine, name string) netd.Counter {
	t.Helper()
	s, err := n.Get(t.Context(), machine)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range s.Counters {
		if c.Name == name {
			return c
		}
	}
	return netd.Counter{}
}
