// Package stack is the network of one machine inside of its own jail: it takes
// frames from the machine's network device, is the other end of the guest's
// connections, and asks for what lies behind them over a local socket (package
// ask). It is the only part of such a network that parses what a guest sends;
// it opens no connection and knows no policy, so whoever takes it over has what
// the guest had.
package stack

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/xfeldman/aegisvm/netd/policy"
	"github.com/xfeldman/aegisvm/netd/user/ask"
)

// Limits of one machine. What its connections may hold in memory is twice
// their number times bufferSize.
const (
	MaxConnections = 1024
	MaxFlows       = 512
	bufferSize     = 128 << 10
	maxAsking      = 256
	maxQueued      = 1024 // frames for the guest
)

// Config is one machine's link.
type Config struct {
	// Guest is the guest's address, Gateway the other one on the link.
	Guest, Gateway netip.Addr
	// Link carries frames, each behind its length in four bytes, the most
	// significant first.
	Link io.ReadWriteCloser
	// MTU is the largest packet on the link.
	MTU int
	Log *slog.Logger
}

// Stack is the network of one machine.
type Stack struct {
	config   Config
	client   ask.Client
	counters counters
	denials  denials
	net      *stack.Stack
	out      *channel.Endpoint

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	connections, flows, asking limit
	// policies is how often the policy has changed.
	policies atomic.Uint64

	mu    sync.Mutex // guards the fields below
	open  map[*connection]struct{}
	pings map[pingKey]*ping
}

const nic = 1

// New makes the stack of a link, which it takes possession of. It works until
// Close, or until the link ends.
func New(c Config) (*Stack, error) {
	s := &Stack{
		config: c, out: channel.New(maxQueued, uint32(c.MTU), ""), open: map[*connection]struct{}{}, pings: map[pingKey]*ping{},
		connections: newLimit(MaxConnections), flows: newLimit(MaxFlows), asking: newLimit(maxAsking),
		net: stack.New(stack.Options{
			NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol},
			TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
		}),
	}
	s.client.Told = func(a ask.Answer) { s.tasks.Go(func() { s.told(a) }) }
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.out.LinkEPCapabilities = stack.CapabilityRXChecksumOffload // the link loses no bit
	if err := s.prepare(); err != nil {
		s.net.Destroy()
		return nil, fmt.Errorf("making a network stack: %s", err)
	}
	s.net.SetTransportProtocolHandler(tcp.ProtocolNumber, tcp.NewForwarder(s.net, bufferSize, MaxConnections, s.connect).HandlePacket)
	s.net.SetTransportProtocolHandler(udp.ProtocolNumber, udp.NewForwarder(s.net, s.datagram).HandlePacket)
	s.tasks.Go(s.read)
	s.tasks.Go(s.write)
	return s, nil
}

// prepare makes the stack the other end of whatever the guest speaks to.
func (s *Stack) prepare() tcpip.Error {
	sack, moderate := tcpip.TCPSACKEnabled(true), tcpip.TCPModerateReceiveBufferOption(false)
	in := tcpip.TCPReceiveBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: bufferSize, Max: bufferSize}
	out := tcpip.TCPSendBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: bufferSize, Max: bufferSize}
	for _, o := range []tcpip.SettableTransportProtocolOption{&sack, &moderate, &in, &out} {
		if err := s.net.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return err
		}
	}
	if err := s.net.CreateNIC(nic, s.out); err != nil {
		return err
	}
	if err := s.net.SetPromiscuousMode(nic, true); err != nil {
		return err
	}
	if err := s.net.SetSpoofing(nic, true); err != nil {
		return err
	}
	s.net.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}})
	return nil
}

// Serve has what the guest wants opened over a connection to package user,
// until that or ctx ends. Without it nothing new is opened.
func (s *Stack) Serve(ctx context.Context, conn *net.UnixConn) {
	defer context.AfterFunc(s.ctx, func() { conn.Close() })()
	s.client.Serve(ctx, conn)
}

// Close ends the stack and all that the guest has open.
func (s *Stack) Close() {
	s.cancel()
	s.config.Link.Close()
	s.mu.Lock()
	for c := range s.open {
		c.reset()
	}
	for _, p := range s.pings {
		p.close()
	}
	s.mu.Unlock()
	s.net.Destroy()
	s.out.Close()
	s.tasks.Wait()
}

// told does what whoever opens connections wants.
func (s *Stack) told(a ask.Answer) {
	if a.Op == ask.Count {
		s.client.Say(ask.Question{ID: a.ID, Op: ask.Count, Counters: s.counters.list()})
		return
	}
	s.policies.Add(1)
	s.mu.Lock()
	all := make([]*connection, 0, len(s.open))
	for c := range s.open {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		s.check(c)
	}
}

// check asks whether a connection may stay, and ends it if not.
func (s *Stack) check(c *connection) {
	a, _, err := s.client.Ask(s.ctx, ask.Question{Op: ask.Check, Protocol: policy.TCP, To: c.to})
	if err == nil && !a.OK {
		c.reset()
	}
}

// refuse has a packet counted that goes no further.
func (s *Stack) refuse(protocol uint8, to netip.AddrPort, size int) {
	if !s.asking.enter() {
		s.deny(policy.DropFlood, size)
		return
	}
	s.tasks.Go(func() {
		defer s.asking.leave()
		_, f, err := s.client.Ask(s.ctx, ask.Question{Op: ask.Open, Protocol: protocol, To: to, Size: size, Drop: true})
		if err == nil && f != nil {
			f.Close()
		}
	})
}

// destination is where a packet of the guest goes.
func destination(id stack.TransportEndpointID) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4(id.LocalAddress.As4()), id.LocalPort)
}

// limit counts what there may be at most.
type limit chan struct{}

func newLimit(n int) limit { return make(limit, n) }

func (l limit) enter() bool {
	select {
	case l <- struct{}{}:
		return true
	default:
		return false
	}
}

func (l limit) leave() { <-l }
