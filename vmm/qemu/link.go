package qemu

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"

	"github.com/xfeldman/aegisvm/guest/proto/link"
	"github.com/xfeldman/aegisvm/vmm"
)

// errLinkGone is wrapped when the serial port has gone, and its machine with
// it.
var errLinkGone = errors.New("the link to the guest is gone")

// guestLink is the host's end of a machine's serial port.
type guestLink struct {
	serial *port
	// broken is called when the guest breaks the session, not when the port
	// goes with its machine.
	broken func(why error)

	mu      sync.Mutex // guards session
	session *link.Session
}

func newGuestLink(serial *net.UnixConn, broken func(why error)) *guestLink {
	return &guestLink{serial: &port{UnixConn: serial}, broken: broken}
}

// port is a serial port that remembers whether QEMU hung up.
type port struct {
	*net.UnixConn
	hungUp atomic.Bool
}

func (p *port) Read(b []byte) (int, error) {
	n, err := p.UnixConn.Read(b)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, net.ErrClosed) {
		p.hungUp.Store(true)
	}
	return n, err
}

// Write remembers, too: a port that cannot be written to any more has lost its
// reader before ours has read the end.
func (p *port) Write(b []byte) (int, error) {
	n, err := p.UnixConn.Write(b)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, net.ErrClosed) {
		p.hungUp.Store(true)
	}
	return n, err
}

// awaitDoorbell returns nil when the guest has rung; the end of the machine
// is the other exit.
func (l *guestLink) awaitDoorbell() error {
	return link.AwaitDoorbell(context.Background(), l.serial)
}

// attach begins the session with the guest, once.
func (l *guestLink) attach() (*link.Session, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session == nil {
		s, err := link.Attach(l.serial)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errLinkGone, err)
		}
		l.session = s
		go l.watch(s) // ends with the session
	}
	return l.session, nil
}

// watch tells of a session that ended on a port that did not.
func (l *guestLink) watch(s *link.Session) {
	<-s.Done()
	if !l.serial.hungUp.Load() {
		l.broken(s.Err())
	}
}

// dial opens a stream to a port.
func (l *guestLink) dial(ctx context.Context, port uint32) (vmm.Conn, error) {
	s, err := l.attach()
	if err != nil {
		return nil, err
	}
	c, err := s.Dial(ctx, port)
	if err == nil {
		return c, nil
	}
	select {
	case <-s.Done():
		return nil, fmt.Errorf("%w: %w", errLinkGone, err)
	default:
		return nil, err
	}
}

func (l *guestLink) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session != nil {
		l.session.Close()
	}
	l.serial.Close()
}
