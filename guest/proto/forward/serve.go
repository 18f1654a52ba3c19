package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"
)

// headTime is how long a host may take to say where to.
const headTime = 10 * time.Second

// Server is the guest's half.
type Server struct {
	// Watch, if there is one, tells until stop is called that a program may have
	// begun to listen on a port of TCP; closed, it tells nothing any more. An
	// error says that it cannot tell.
	Watch func(port uint16) (woken <-chan struct{}, stop func(), err error)
}

// Serve serves one connection to proto.PortForward until it ends or ctx does,
// and closes it.
func (s Server) Serve(ctx context.Context, c Stream) error {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	c.SetReadDeadline(time.Now().Add(headTime))
	t, err := ReadTarget(c)
	if err != nil {
		return err
	}
	c.SetReadDeadline(time.Time{})
	app, err := s.dial(ctx, t)
	if err != nil {
		return writeAnswer(c, err)
	}
	defer app.Close()
	defer context.AfterFunc(ctx, func() { app.Close() })()
	if err := writeAnswer(c, nil); err != nil {
		return err
	}
	if t.Network == UDP {
		relay(c, app)
		return nil
	}
	join(c, app.(*net.TCPConn))
	return nil
}

// queueTime is how long a program that listens may leave a connection in the
// queue; one that is full makes the kernel try again after 1, 3, 7, 15 and 31 s.
const queueTime = 45 * time.Second

// look is how often the guest looks whether a program that is waited for
// listens, where its kernel tells nobody: only while a connection waits.
const look = 5 * time.Millisecond

// dial connects to the program, which it waits for where that is wanted.
func (s Server) dial(ctx context.Context, t Target) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, t.Wait+queueTime)
	defer cancel()
	c, err := dialOnce(ctx, t)
	if !errors.Is(err, ErrRefused) || t.Wait <= 0 {
		return c, err
	}
	var woken <-chan struct{}
	if s.Watch != nil {
		if events, stop, none := s.Watch(t.Port); none == nil {
			defer stop()
			woken = events
		}
	}
	end := time.NewTimer(t.Wait)
	defer end.Stop()
	for { // again at once: it may have begun before it was watched
		if c, err = dialOnce(ctx, t); !errors.Is(err, ErrRefused) {
			return c, err
		}
		select {
		case _, more := <-woken:
			if !more {
				woken = nil
			}
		case <-tick(woken):
		case <-end.C:
			return nil, err
		case <-ctx.Done():
			return nil, err
		}
	}
}

// tick is when to look where nobody tells; never where somebody does.
func tick(woken <-chan struct{}) <-chan time.Time {
	if woken != nil {
		return nil
	}
	return time.After(look)
}

// dialOnce tries the addresses of the guest one after the other. Nobody can
// tell of a UDP port whether somebody is there.
func dialOnce(ctx context.Context, t Target) (net.Conn, error) {
	network, port := "tcp", strconv.Itoa(int(t.Port))
	if t.Network == UDP {
		network = "udp"
	}
	var d net.Dialer
	for _, a := range addresses() {
		c, err := d.DialContext(ctx, network, net.JoinHostPort(a.String(), port))
		switch {
		case err == nil:
			return c, nil
		case !nobody(err):
			return nil, fmt.Errorf("connecting to %s port %s: %w", network, port, err)
		}
	}
	return nil, ErrRefused
}

// nobody tells whether an address is only not the right one.
func nobody(err error) bool {
	for _, no := range []error{
		syscall.ECONNREFUSED, syscall.EADDRNOTAVAIL, syscall.EAFNOSUPPORT, syscall.ENETUNREACH,
		syscall.EHOSTUNREACH,
	} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

// addresses are where a program may listen: the loopback's first, for most
// listen everywhere or there.
func addresses() []netip.Addr {
	all := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return all
	}
	for _, a := range own {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLoopback() && p.Addr().Is4() {
			all = append(all, p.Addr())
		}
	}
	return all
}
