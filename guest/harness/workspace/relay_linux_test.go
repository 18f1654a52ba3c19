package workspace

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// stream is a stream of the host, played by a pipe.
type stream struct {
	net.Conn
	done chan struct{} // closed when it broke
}

func (stream) CloseWrite() error       { return nil }
func (s stream) Done() <-chan struct{} { return s.done }

func newStream() (ours stream, host net.Conn) {
	a, b := net.Pipe()
	return stream{a, make(chan struct{})}, b
}

// listening gives a relay a port of any number, and a way to connect to it
// from a port that the kernel might use.
func listening(t *testing.T) (*Relay, func(privileged bool) net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := New(func() error { return nil }, func(line string) {
		if t.Context().Err() == nil {
			t.Log(line)
		}
	})
	go r.accept(l)
	t.Cleanup(func() { l.Close() })
	return r, func(privileged bool) net.Conn {
		t.Helper()
		d := net.Dialer{}
		for port := 700; ; port++ {
			if privileged {
				d.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}
			}
			c, err := d.Dial("tcp4", l.Addr().String())
			if err != nil && port < 720 && privileged {
				continue
			}
			if err != nil {
				t.Skipf("connecting from a privileged port: %v", err)
			}
			t.Cleanup(func() { c.Close() })
			return c
		}
	}
}

func say(t *testing.T, from, to net.Conn, text string) {
	t.Helper()
	for _, c := range []net.Conn{from, to} {
		c.SetDeadline(time.Now().Add(10 * time.Second))
	}
	if _, err := io.WriteString(from, text); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(to, got); err != nil || string(got) != text {
		t.Fatalf("%q, %v arrived, expected %q", got, err, text)
	}
}

// wantClosed fails unless the other side closes a connection.
func wantClosed(t *testing.T, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	var timeout net.Error
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("read %d bytes, %v; expected the end", n, err)
	}
}

func TestRelayCarriesBothWays(t *testing.T) {
	r, connect := listening(t)
	c := connect(true) // before there is a stream
	s, host := newStream()
	r.Offer(s)
	say(t, c, host, "call")
	say(t, host, c, "answer")
	c.Close()
	wantClosed(t, host)
}

func TestRelayClosesTheKernelsSideWhenTheHostBreaks(t *testing.T) {
	r, connect := listening(t)
	first, host := newStream()
	r.Offer(first)
	c := connect(true)
	say(t, c, host, "call")
	host.Close()
	wantClosed(t, c)
	dead, deadHost := newStream()
	close(dead.done)
	r.Offer(dead)
	second, host := newStream()
	r.Offer(second)
	again := connect(true)
	say(t, again, host, "call again")
	wantClosed(t, deadHost)
}

func TestRelayRefusesProgramsWithoutRights(t *testing.T) {
	r, connect := listening(t)
	s, _ := newStream()
	r.Offer(s)
	wantClosed(t, connect(false))
	if len(r.ready) != 1 {
		t.Error("a stream was given to it")
	}
}

func TestRelayKeepsFewStreams(t *testing.T) {
	r, _ := listening(t)
	for range maxStreams {
		s, _ := newStream()
		r.Offer(s)
	}
	s, host := newStream()
	r.Offer(s)
	wantClosed(t, host)
}
