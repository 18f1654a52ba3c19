package router_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/router"
	"github.com/xfeldman/aegisvm/router/routertest"
)

// A program that is not on its guest's address is reached by the guest, which
// is asked at once the next time.
func TestAProgramOnTheLoopbackOfItsGuestIsReached(t *testing.T) {
	g := routertest.NewGuests(t)
	g.Address = netip.MustParseAddr("127.0.0.2")
	s := open(t, router.Config{Waker: g})
	e := expose(t, s, routertest.Expose("inst-1", routertest.Listen(t, echoAll), api.ProtocolTCP))
	for range 3 {
		c := routertest.Dial(t, e)
		io.WriteString(c, "hello")
		c.CloseWrite()
		if got, err := io.ReadAll(c); err != nil || string(got) != "hello" {
			t.Errorf("read %q (%v)", got, err)
		}
	}
	if n := g.Dials(); n != 3 {
		t.Errorf("%d streams for 3 connections", n)
	}
}

func TestAResetOfTheProgramReachesItsClient(t *testing.T) {
	g := routertest.NewGuests(t)
	g.Address = loopback
	port := routertest.Listen(t, func(c *net.TCPConn) {
		io.ReadFull(c, make([]byte, 5))
		c.SetLinger(0)
	})
	s := open(t, router.Config{Waker: g})
	c := routertest.Dial(t, expose(t, s, routertest.Expose("inst-1", port, api.ProtocolTCP)))
	io.WriteString(c, "hello")
	if got, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read %q (%v)", got, err)
	}
}

func TestAResetOfTheClientReachesTheProgram(t *testing.T) {
	g := routertest.NewGuests(t)
	g.Address = loopback
	heard := make(chan error, 1)
	port := routertest.Listen(t, func(c *net.TCPConn) {
		io.WriteString(c, "x")
		_, err := io.ReadAll(c)
		heard <- err
	})
	s := open(t, router.Config{Waker: g})
	c := routertest.Dial(t, expose(t, s, routertest.Expose("inst-1", port, api.ProtocolTCP)))
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	c.SetLinger(0)
	c.Close()
	if err := <-heard; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the program read %v", err)
	}
}

// What a program has said is heard though it has hung up on its client, which
// still speaks.
func TestAnAnswerBeforeTheEndOfTheQuestionArrives(t *testing.T) {
	g := routertest.NewGuests(t)
	g.Address = loopback
	port := routertest.Listen(t, func(c *net.TCPConn) {
		io.ReadFull(c, make([]byte, 1))
		io.WriteString(c, "too much")
		c.CloseWrite()
		io.Copy(io.Discard, io.LimitReader(c, 1<<20))
	})
	s := open(t, router.Config{Waker: g})
	c := routertest.Dial(t, expose(t, s, routertest.Expose("inst-1", port, api.ProtocolTCP)))
	go c.ReadFrom(io.LimitReader(zeros{}, 8<<20))
	got := make([]byte, len("too much"))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "too much" {
		t.Errorf("read %q (%v)", got, err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// A machine that has ended answers nobody any more; what it had said arrives.
func TestAMachineThatEndsEndsItsConnections(t *testing.T) {
	g := routertest.NewGuests(t)
	g.Address = loopback
	port := routertest.Listen(t, func(c *net.TCPConn) {
		io.WriteString(c, "last words")
		io.Copy(io.Discard, c)
	})
	s := open(t, router.Config{Waker: g})
	c := routertest.Dial(t, expose(t, s, routertest.Expose("inst-1", port, api.ProtocolTCP)))
	g.AwaitUse(t, 1)
	g.EndLeases() // and their machines
	if got, err := io.ReadAll(c); string(got) != "last words" || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read %q (%v)", got, err)
	}
}
