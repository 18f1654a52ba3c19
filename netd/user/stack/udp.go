package stack

import (
	"bytes"
	"context"
	"sync"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/xfeldman/aegisvm/netd/policy"
	"github.com/xfeldman/aegisvm/netd/user/ask"
)

// datagram deals with the first one of a flow. Those that come while it is
// being opened wait in its endpoint.
func (s *Stack) datagram(r *udp.ForwarderRequest) bool {
	size := header.IPv4MinimumSize + header.UDPMinimumSize
	if !s.flows.enter() {
		s.deny(policy.DropFlood, size)
		return true
	}
	var queue waiter.Queue
	end, err := r.CreateEndpoint(&queue)
	if err != nil {
		s.flows.leave()
		return true
	}
	q := ask.Question{Op: ask.Open, Protocol: policy.UDP, To: destination(r.ID()), From: r.ID().RemotePort, Size: size}
	s.tasks.Go(func() {
		defer s.flows.leave()
		defer end.Close()
		s.flow(q, end, &queue)
	})
	return true
}

// flow carries datagrams until whoever opened the flow ends it.
func (s *Stack) flow(q ask.Question, end tcpip.Endpoint, queue *waiter.Queue) {
	outside, _ := s.dial(q)
	if outside == nil {
		return
	}
	defer outside.Close()
	defer context.AfterFunc(s.ctx, func() { outside.Close() })()
	raw, ok := outside.(syscall.Conn)
	if !ok {
		return
	}
	out, err := raw.SyscallConn()
	if err != nil {
		return
	}
	done := make(chan struct{})
	var ways sync.WaitGroup
	ways.Go(func() { s.fromGuest(end, queue, out, done) })
	toGuest := func(b []byte) error {
		end.Write(bytes.NewReader(b), tcpip.WriteOptions{}) // what finds no room is lost
		return nil
	}
	for ask.Receive(out, true, toGuest) == nil {
	}
	close(done)
	ways.Wait()
}

// fromGuest carries what the guest says.
func (s *Stack) fromGuest(end tcpip.Endpoint, queue *waiter.Queue, out syscall.RawConn, done <-chan struct{}) {
	entry, more := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr)
	queue.EventRegister(&entry)
	defer queue.EventUnregister(&entry)
	for {
		var b bytes.Buffer
		_, err := end.Read(&b, tcpip.ReadOptions{})
		if _, wait := err.(*tcpip.ErrWouldBlock); wait {
			select {
			case <-more:
				continue
			case <-done:
			case <-s.ctx.Done():
			}
			return
		}
		if err != nil {
			return
		}
		if b.Len() > 0 && ask.Send(out, b.Bytes()) != nil {
			return
		}
	}
}
