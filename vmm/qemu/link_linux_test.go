package qemu

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/guest/proto/link"
)

// serialPort gives both ends of a machine's serial port.
func serialPort(t *testing.T) (host, guest *net.UnixConn) {
	t.Helper()
	host, theirs, err := socketpair()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	c, err := net.FileConn(theirs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { host.Close(); c.Close() })
	return host, c.(*net.UnixConn)
}

// tap lets a test write to the port behind the back of the guest's link.
type tap struct{ net.Conn }

func (p tap) Close() error { return nil }

func TestALinkThatTheGuestBreaksIsTold(t *testing.T) {
	host, guest := serialPort(t)
	broken := make(chan error, 1)
	l := newGuestLink(host, func(why error) { broken <- why })
	defer l.close()
	go link.Ring(guest)
	if err := l.awaitDoorbell(); err != nil {
		t.Fatal(err)
	}
	server := link.Serve(tap{Conn: guest})
	c, err := l.dial(t.Context(), 7)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	theirs, port, err := server.Accept()
	if err != nil || port != 7 {
		t.Fatalf("port %d, %v", port, err)
	}
	go io.Copy(theirs, theirs)
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	guest.Write([]byte("this is no frame of any epoch, and long enough to be seen as none"))
	select {
	case why := <-broken:
		if why == nil || errors.Is(why, link.ErrClosed) {
			t.Errorf("the broken link was told as %v", why)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the broken link was not told")
	}
	if _, err := l.dial(t.Context(), 7); !errors.Is(err, errLinkGone) {
		t.Errorf("dialling on a broken link: %v", err)
	}
}

func TestALinkThatGoesWithItsMachineIsNotCalledBroken(t *testing.T) {
	host, guest := serialPort(t)
	called := make(chan struct{}, 1)
	l := newGuestLink(host, func(error) { called <- struct{}{} })
	server := link.Serve(guest)
	c, err := l.dial(t.Context(), 7)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := server.Accept(); err != nil {
		t.Fatal(err)
	}
	guest.Close()
	if n, err := io.Copy(io.Discard, c); n != 0 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("stream of a gone machine: %d bytes, %v", n, err)
	}
	<-l.session.Done()
	l.close()
	select {
	case <-called:
		t.Error("a machine that went is called one that broke its link")
	case <-time.After(50 * time.Millisecond):
	}
}
