package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/xfeldman/aegisvm/router"
)

// port is where names are asked for.
const port = 53

// sockets are the two of one address.
type sockets struct {
	udp *net.UDPConn
	tcp *net.TCPListener
}

func (s sockets) close() {
	s.udp.Close()
	s.tcp.Close()
}

// listen opens port 53 of an address, which need not be the host's yet.
func listen(ctx context.Context, addr netip.Addr) (s sockets, err error) {
	at := netip.AddrPortFrom(addr, port).String()
	l := net.ListenConfig{Control: early}
	u, err := l.ListenPacket(ctx, "udp4", at)
	if err != nil {
		return s, err
	}
	t, err := l.Listen(ctx, "tcp4", at)
	if err != nil {
		u.Close()
		return s, err
	}
	return sockets{u.(*net.UDPConn), t.(*net.TCPListener)}, nil
}

// CanListen tells why a port 53 cannot be opened here, tried at an address. That
// somebody else has that one is no reason.
func CanListen(ctx context.Context, addr netip.Addr) error {
	s, err := listen(ctx, addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil
	case err != nil:
		return fmt.Errorf("answering guests who ask for names: %w", err)
	}
	s.close()
	return nil
}

// The names of kept sockets: kind and address.
const keptUDP, keptTCP = "dns.udp.", "dns.tcp."

// TakeKept takes those that are ours out of what a keeper has kept.
func TakeKept(all map[string]*os.File) map[string]*os.File {
	ours := map[string]*os.File{}
	for name, f := range all {
		if strings.HasPrefix(name, keptUDP) || strings.HasPrefix(name, keptTCP) {
			ours[name] = f
			delete(all, name)
		}
	}
	return ours
}

// keep gives both to a keeper.
func (s sockets) keep(k router.Keeper, addr netip.Addr) error {
	for name, one := range map[string]interface{ File() (*os.File, error) }{keptUDP: s.udp, keptTCP: s.tcp} {
		f, err := one.File()
		if err != nil {
			return err
		}
		err = k.Keep(name+addr.String(), f)
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// drop has a keeper forget both.
func drop(k router.Keeper, addr netip.Addr) error {
	return errors.Join(k.Drop(keptUDP+addr.String()), k.Drop(keptTCP+addr.String()))
}

// takeOver makes sockets of what was kept of an address, and closes that.
func takeOver(kept map[string]*os.File, addr netip.Addr) (s sockets, err error) {
	u, t := kept[keptUDP+addr.String()], kept[keptTCP+addr.String()]
	delete(kept, keptUDP+addr.String())
	delete(kept, keptTCP+addr.String())
	defer u.Close() // none is no harm
	defer t.Close()
	if u == nil || t == nil {
		return s, errors.New("one of the two was not kept")
	}
	p, err := net.FilePacketConn(u)
	if err != nil {
		return s, err
	}
	l, err := net.FileListener(t)
	if err != nil {
		p.Close()
		return s, err
	}
	s.udp, _ = p.(*net.UDPConn)
	s.tcp, _ = l.(*net.TCPListener)
	at := netip.AddrPortFrom(addr, port).String()
	if s.udp == nil || s.tcp == nil || p.LocalAddr().String() != at || l.Addr().String() != at {
		p.Close()
		l.Close()
		return sockets{}, fmt.Errorf("they are no sockets at %s", at)
	}
	return s, nil
}

// How many connections there may be at once: of one guest, and of all.
const maxConns, maxAllConns = 8, 512

// bounded is a listener that closes at once what is too much.
type bounded struct {
	net.Listener
	mu    sync.Mutex // guards the fields below
	conns map[netip.Addr]int
	all   int
}

// Accept implements net.Listener.
func (b *bounded) Accept() (net.Conn, error) {
	for {
		c, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from, err := netip.ParseAddrPort(c.RemoteAddr().String())
		if err == nil && b.enter(from.Addr()) {
			return &counted{Conn: c, leave: sync.OnceFunc(func() { b.leave(from.Addr()) })}, nil
		}
		c.Close()
	}
}

func (b *bounded) enter(a netip.Addr) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conns[a] >= maxConns || b.all >= maxAllConns {
		return false
	}
	b.conns[a]++
	b.all++
	return true
}

func (b *bounded) leave(a netip.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all--
	if b.conns[a]--; b.conns[a] == 0 {
		delete(b.conns, a)
	}
}

// counted is a connection that is counted until it is closed.
type counted struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c *counted) Close() error {
	c.leave()
	return c.Conn.Close()
}
