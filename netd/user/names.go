package user

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/xfeldman/aegisvm/netd/policy"
	"github.com/xfeldman/aegisvm/netd/user/ask"
	"github.com/xfeldman/aegisvm/vmm/packet"
)

// Bounds of questions for names: how large one may be, and how many may wait
// for whoever answers.
const (
	maxQuestion = 4096
	maxWaiting  = 256
	namesIdle   = 10 * time.Second
)

// names are the questions of guests at port 53 of their gateways. Those that
// come as datagrams are a net.PacketConn, in which guests are told apart by
// their addresses; nameStreams is the other half of it.
type names struct {
	asked   chan question
	streams chan net.Conn
	done    chan struct{}
	end     func()

	mu    sync.Mutex // guards flows
	flows map[netip.AddrPort]*flow
}

type question struct {
	from netip.AddrPort
	body []byte
}

func newNames() *names {
	n := &names{
		asked: make(chan question, maxWaiting), streams: make(chan net.Conn), done: make(chan struct{}),
		flows: map[netip.AddrPort]*flow{},
	}
	n.end = sync.OnceFunc(func() { close(n.done) })
	return n
}

// datagrams begins a flow of questions of one port of a guest, and gives the
// guest's end.
func (n *names) datagrams(m *machine, k policy.Packet, from netip.AddrPort) (*os.File, error) {
	ours, theirs, err := packet.Pair()
	if err != nil {
		return nil, err
	}
	f := &flow{packet: k, inside: ours, idle: namesIdle}
	n.mu.Lock()
	if before := n.flows[from]; before != nil {
		before.close()
	}
	n.flows[from] = f
	n.mu.Unlock()
	run := func() {
		n.ask(f, from)
		n.forget(f, from)
	}
	if !m.begin(f, run) {
		n.forget(f, from)
		theirs.Close()
		return nil, net.ErrClosed
	}
	return theirs, nil
}

func (n *names) forget(f *flow, from netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.flows[from] == f {
		delete(n.flows, from)
	}
}

// ask hands questions on until the flow ends. What nobody has time for is
// lost, and asked again by who still wants to know.
func (n *names) ask(f *flow, from netip.AddrPort) {
	in, err := f.inside.SyscallConn()
	if err != nil {
		return
	}
	take := func(b []byte) error {
		select {
		case n.asked <- question{from, append([]byte(nil), b[:min(len(b), maxQuestion)]...)}:
		default:
		}
		return nil
	}
	f.alive()
	for ask.Receive(in, true, take) == nil {
		f.alive()
	}
}

// stream gives the guest's end of a connection to whoever answers.
func (n *names) stream(from, to netip.AddrPort) (*os.File, error) {
	ours, theirs, err := packet.StreamPair()
	if err != nil {
		return nil, err
	}
	select {
	case n.streams <- nameStream{ours, from, to}:
		return theirs, nil
	case <-n.done:
	case <-time.After(time.Second): // nobody answers, or has no time
	}
	ours.Close()
	theirs.Close()
	return nil, net.ErrClosed
}

// ReadFrom implements net.PacketConn.
func (n *names) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case q := <-n.asked:
		return copy(b, q.body), net.UDPAddrFromAddrPort(q.from), nil
	case <-n.done:
		return 0, nil, net.ErrClosed
	}
}

// WriteTo implements net.PacketConn. A guest that has gone is none of the
// writer's business.
func (n *names) WriteTo(b []byte, to net.Addr) (int, error) {
	addr, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, net.InvalidAddrError("a guest is known by an address of UDP")
	}
	n.mu.Lock()
	f := n.flows[addr.AddrPort()]
	n.mu.Unlock()
	if f == nil {
		return len(b), nil
	}
	out, err := f.inside.SyscallConn()
	if err == nil {
		err = ask.Send(out, b)
	}
	if err != nil {
		f.close()
	}
	return len(b), nil
}

// Close implements net.PacketConn and, for nameStreams, net.Listener.
func (n *names) Close() error {
	n.end()
	return nil
}

// LocalAddr implements net.PacketConn.
func (n *names) LocalAddr() net.Addr { return &net.UDPAddr{Port: 53} }

// There are no deadlines: whoever reads ends it by Close.

// SetDeadline implements net.PacketConn.
func (n *names) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.PacketConn.
func (n *names) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.PacketConn.
func (n *names) SetWriteDeadline(time.Time) error { return nil }

// nameStreams are the connections to port 53 of gateways.
type nameStreams names

// Accept implements net.Listener.
func (n *nameStreams) Accept() (net.Conn, error) {
	select {
	case c := <-n.streams:
		return c, nil
	case <-n.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (n *nameStreams) Close() error { return (*names)(n).Close() }

// Addr implements net.Listener.
func (n *nameStreams) Addr() net.Addr { return &net.TCPAddr{Port: 53} }

// nameStream is one of them, with the addresses that the guest knows.
type nameStream struct {
	*net.UnixConn
	from, to netip.AddrPort
}

// RemoteAddr implements net.Conn.
func (c nameStream) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.from) }

// LocalAddr implements net.Conn.
func (c nameStream) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(c.to) }
