package user

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"

	"github.com/xfeldman/aegisvm/netd/policy"
	"github.com/xfeldman/aegisvm/netd/user/ask"
	"github.com/xfeldman/aegisvm/vmm/packet"
)

// icmp is its number in IPv4.
const icmp = 1

// opened is what becomes of a question that the policy allows.
type opened struct {
	file    *os.File // the caller closes it; nil where nothing was opened
	count   string
	refused bool
}

// open connects to where the guest wants to.
func (m *machine) open(ctx context.Context, k policy.Packet, q ask.Question) opened {
	l := m.lease()
	from := netip.AddrPortFrom(l.Addr, q.From)
	names := k.To == l.Gateway && k.Port == 53 && m.network.options.DNS
	switch {
	case names && k.Protocol == policy.TCP:
		return local(m.network.names.stream(from, q.To))
	case names:
		return local(m.network.names.datagrams(m, k, from))
	case k.Protocol == policy.TCP:
		return m.network.connect(ctx, outside(l.Gateway, q.To))
	case k.Protocol == policy.UDP:
		return m.carried(k, func() (net.Conn, error) { return net.Dial("udp4", outside(l.Gateway, q.To).String()) })
	case k.Protocol == icmp:
		return m.carried(k, func() (net.Conn, error) {
			f, err := openPing(k.To)
			if err != nil {
				return nil, err
			}
			defer f.Close()
			return net.FileConn(f)
		})
	}
	return opened{count: policy.DropEgress}
}

// outside is an address as this process knows it: the gateway of the guest is
// the host.
func outside(gateway netip.Addr, to netip.AddrPort) netip.AddrPort {
	if to.Addr() == gateway {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), to.Port())
	}
	return to
}

// local is a connection that leads to this process.
func local(f *os.File, err error) opened {
	if err != nil {
		return opened{count: policy.DropFlood}
	}
	return opened{file: f, count: policy.Allowed}
}

// connect makes a connection of TCP. It is the stack's when that has it.
func (n *Network) connect(ctx context.Context, to netip.AddrPort) opened {
	d := net.Dialer{Timeout: n.options.DialTimeout}
	c, err := d.DialContext(ctx, "tcp4", to.String())
	if err != nil {
		return opened{count: policy.Allowed, refused: unreachable(err)}
	}
	defer c.Close()
	f, err := c.(*net.TCPConn).File()
	if err != nil {
		n.log.Warn("a connection cannot be handed on", "error", err)
		return opened{count: policy.DropFlood}
	}
	return opened{file: f, count: policy.Allowed}
}

// unreachable tells errors that come from the other side or the way there.
func unreachable(err error) bool {
	for _, sign := range []error{syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.ECONNRESET} {
		if errors.Is(err, sign) {
			return true
		}
	}
	return false
}

// carried is a flow of datagrams, which this process carries.
func (m *machine) carried(k policy.Packet, dial func() (net.Conn, error)) opened {
	c, err := dial()
	if err != nil {
		return opened{count: policy.DropEgress, refused: unreachable(err)}
	}
	ours, theirs, err := packet.Pair()
	if err != nil {
		c.Close()
		return opened{count: policy.DropFlood}
	}
	f := &flow{packet: k, inside: ours, outside: c, idle: m.network.options.Idle}
	if !m.begin(f, f.carry) {
		theirs.Close()
		return opened{count: policy.DropFlood}
	}
	return opened{file: theirs, count: policy.Allowed}
}
