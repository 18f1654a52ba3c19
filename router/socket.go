package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"

	"github.com/xfeldman/aegisvm/api"
)

// Keeper keeps sockets over the death of this process; systemd does.
type Keeper interface {
	// Keep gives it a copy of a socket, Drop takes it back.
	Keep(name string, f *os.File) error
	Drop(name string) error
}

// name is what a port's socket is called by its keeper.
func (k key) name() string {
	network := "tcp"
	if k.udp {
		network = "udp"
	}
	return fmt.Sprintf("port.%s.%d.%s", k.instance, k.guest, network)
}

// socket is an open port: a *net.TCPListener or a *net.UDPConn.
type socket interface {
	io.Closer
	File() (*os.File, error)
}

func (e entry) address() netip.AddrPort {
	addr, _ := netip.ParseAddr(e.Bind) // checked before
	return netip.AddrPortFrom(addr.Unmap(), uint16(e.ActualPort))
}

// bind opens the port of an entry, any free one if it has none yet.
func bind(ctx context.Context, e entry) (socket, error) {
	address := e.address()
	family := "4"
	if address.Addr().Is6() {
		family = "6" // and not what is written as IPv6 for IPv4 as well
	}
	var l net.ListenConfig
	if e.Protocol == api.ProtocolUDP {
		c, err := l.ListenPacket(ctx, "udp"+family, address.String())
		if err != nil {
			return nil, explain(e, err)
		}
		return c.(*net.UDPConn), nil
	}
	c, err := l.Listen(ctx, "tcp"+family, address.String())
	if err != nil {
		return nil, explain(e, err)
	}
	return c.(*net.TCPListener), nil
}

// explain says what to do about a port that cannot be opened.
func explain(e entry, err error) error {
	return explainAt(net.JoinHostPort(e.Bind, strconv.Itoa(e.ActualPort)), e.Bind, err)
}

func explainAt(where, bind string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return api.Errorf(api.Exists, "port %s of this host is taken: choose another or end the program that has it", where)
	case errors.Is(err, syscall.EACCES):
		return api.Errorf(api.Denied, "port %s of this host is not allowed to this daemon: choose one from 1024 on", where)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return api.Errorf(api.InvalidArgument, "this host has no address %s: see `ip address`", bind)
	}
	return api.Errorf(api.Unavailable, "opening port %s: %w", where, err)
}

// takeOver makes a port of a descriptor that was kept, if it is that of the
// entry.
func takeOver(e entry, f *os.File) (socket, error) {
	defer f.Close()
	var s socket
	var at net.Addr
	if e.Protocol == api.ProtocolUDP {
		c, err := net.FilePacketConn(f)
		if err != nil {
			return nil, err
		}
		u, ok := c.(*net.UDPConn)
		if !ok {
			c.Close()
			return nil, errors.New("it is no socket of UDP")
		}
		s, at = u, u.LocalAddr()
	} else {
		l, err := net.FileListener(f)
		if err != nil {
			return nil, err
		}
		t, ok := l.(*net.TCPListener)
		if !ok {
			l.Close()
			return nil, errors.New("it is no socket of TCP")
		}
		s, at = t, t.Addr()
	}
	if got := addrPort(at); got != e.address() {
		s.Close()
		return nil, fmt.Errorf("it is open at %v", at)
	}
	return s, nil
}

func addrPort(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.TCPAddr:
		p := a.AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	case *net.UDPAddr:
		p := a.AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	}
	return netip.AddrPort{}
}

// portOf tells the number of an open port.
func portOf(s socket) int {
	switch s := s.(type) {
	case *net.TCPListener:
		return int(addrPort(s.Addr()).Port())
	case *net.UDPConn:
		return int(addrPort(s.LocalAddr()).Port())
	}
	return 0
}
