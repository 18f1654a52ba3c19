package stack

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/xfeldman/aegisvm/netd/policy"
	"github.com/xfeldman/aegisvm/netd/user/ask"
)

// connection is one of the guest's, of which both ends are open.
type connection struct {
	to      netip.AddrPort
	guest   *gonet.TCPConn
	end     tcpip.Endpoint // of guest
	outside stream
	once    sync.Once
}

// stream is the outer half of a connection: TCP, or a local socket.
type stream interface {
	net.Conn
	CloseWrite() error
}

// connect deals with the beginning of a connection. The guest hears nothing
// before the other side has answered; of what its policy does not allow it
// never hears, as behind any wall that drops.
func (s *Stack) connect(r *tcp.ForwarderRequest) {
	to, size := destination(r.ID()), header.IPv4MinimumSize+header.TCPMinimumSize
	if !s.connections.enter() {
		s.deny(policy.DropFlood, size)
		r.Complete(false)
		return
	}
	defer s.connections.leave()
	policies := s.policies.Load()
	outside, refused := s.dial(ask.Question{
		Op: ask.Open, Protocol: policy.TCP, To: to, From: r.ID().RemotePort, Size: size,
	})
	if outside == nil {
		r.Complete(refused)
		return
	}
	defer outside.Close()
	var queue waiter.Queue
	end, err := r.CreateEndpoint(&queue)
	r.Complete(false)
	if err != nil {
		return // the guest has given up meanwhile
	}
	c := &connection{to: to, guest: gonet.NewTCPConn(&queue, end), end: end, outside: outside}
	defer c.guest.Close()
	if !s.keep(c) {
		return
	}
	defer s.drop(c)
	if s.policies.Load() != policies {
		s.check(c)
	}
	c.join()
}

// dial asks for what a guest wants. It is nil where there is none.
func (s *Stack) dial(q ask.Question) (outside stream, refused bool) {
	if !s.asking.enter() {
		s.deny(policy.DropFlood, q.Size)
		return nil, false
	}
	a, f, err := s.client.Ask(s.ctx, q)
	s.asking.leave()
	if err != nil || f == nil {
		return nil, a.Refused
	}
	return taken(f), false
}

// taken makes a connection of a descriptor that we were given, nil of what is
// none.
func taken(f *os.File) stream {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil
	}
	if s, ok := c.(stream); ok {
		return s
	}
	c.Close()
	return nil
}

// keep notes a connection, unless the stack ends.
func (s *Stack) keep(c *connection) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return false
	}
	s.open[c] = struct{}{}
	return true
}

func (s *Stack) drop(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
}

// join carries bytes until both directions have ended. The end of one is
// handed on as a half-close, and what breaks one breaks both, so that nobody
// takes it for an end.
func (c *connection) join() {
	var ways sync.WaitGroup
	ways.Go(func() { c.half(c.guest, c.outside) })
	ways.Go(func() { c.half(c.outside, c.guest) })
	ways.Wait()
}

func (c *connection) half(to, from stream) {
	if _, err := io.Copy(to, from); err != nil || to.CloseWrite() != nil {
		c.reset()
	}
}

// reset breaks both ends off.
func (c *connection) reset() {
	c.once.Do(func() {
		c.end.Abort()
		if t, ok := c.outside.(*net.TCPConn); ok {
			t.SetLinger(0)
		}
		c.outside.Close()
	})
}
