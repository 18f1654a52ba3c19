package user

import (
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/xfeldman/aegisvm/netd/policy"
	"github.com/xfeldman/aegisvm/netd/user/ask"
)

// maxFlows is how many flows of datagrams one machine may have.
const maxFlows = 512

// flow is one of them: what a stack sends over a local socket goes out, and
// what comes back goes in. It ends when nothing has passed for a while, or
// either side is gone.
type flow struct {
	packet  policy.Packet
	inside  *net.UnixConn
	outside net.Conn // nil for questions for names
	idle    time.Duration
}

func (f *flow) close() {
	f.inside.Close()
	if f.outside != nil {
		f.outside.Close()
	}
}

// begin runs a flow until it ends, if it may begin: the policy may be another
// one since it was asked. Otherwise it is closed.
func (m *machine) begin(f *flow, run func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || len(m.flows) >= maxFlows || m.decide(f.packet, false) != policy.Allowed {
		f.close()
		return false
	}
	m.flows[f] = struct{}{}
	m.network.tasks.Go(func() {
		run()
		f.close()
		m.mu.Lock()
		delete(m.flows, f)
		m.mu.Unlock()
	})
	return true
}

// carry moves datagrams both ways until the flow ends.
func (f *flow) carry() {
	outside, ok := f.outside.(interface {
		net.Conn
		syscall.Conn
	})
	if !ok {
		return
	}
	f.alive()
	var ways sync.WaitGroup
	ways.Go(func() { f.way(f.inside, outside, true) })
	ways.Go(func() { f.way(outside, f.inside, false) })
	ways.Wait()
}

// alive gives the flow its time anew.
func (f *flow) alive() {
	until := time.Now().Add(f.idle)
	f.inside.SetReadDeadline(until)
	if f.outside != nil {
		f.outside.SetReadDeadline(until)
	}
}

// way moves datagrams in one direction.
func (f *flow) way(from, to syscall.Conn, local bool) {
	defer f.close() // the other direction ends as well
	in, err := from.SyscallConn()
	if err != nil {
		return
	}
	out, err := to.SyscallConn()
	if err != nil {
		return
	}
	for ask.Receive(in, local, func(b []byte) error { return ask.Send(out, b) }) == nil {
		f.alive()
	}
}
