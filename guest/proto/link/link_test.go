package link

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// pair is both ends of a buffered serial pipe.
func pair(t *testing.T) (host, guest net.Conn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	return file(t, fds[0]), file(t, fds[1])
}

func file(t *testing.T, fd int) net.Conn {
	t.Helper()
	f := os.NewFile(uintptr(fd), "pair")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// connected is a host's session and its guest's server.
func connected(t *testing.T) (*Session, *Server) {
	t.Helper()
	h, g := pair(t)
	server := Serve(g)
	t.Cleanup(func() { server.Close() })
	session, err := Attach(h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close() })
	return session, server
}

// stream dials and accepts one stream.
func stream(t *testing.T, session *Session, server *Server) (host, guest *Conn) {
	t.Helper()
	host, err := session.Dial(t.Context(), 7)
	if err != nil {
		t.Fatal(err)
	}
	guest, port, err := server.Accept()
	if err != nil || port != 7 {
		t.Fatalf("accepted port %d, %v", port, err)
	}
	return host, guest
}

// counted counts what is written to a pipe at once.
type counted struct {
	net.Conn
	writes *atomic.Int32
}

func (c counted) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

func TestADialIsOneWrite(t *testing.T) {
	h, g := pair(t)
	server := Serve(g)
	t.Cleanup(func() { server.Close() })
	c := counted{h, new(atomic.Int32)}
	session, err := Attach(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close() })
	stream(t, session, server)
	before := c.writes.Load()
	const dials = 20
	for range dials {
		stream(t, session, server)
	}
	if n := c.writes.Load() - before; n != dials {
		t.Errorf("%d dials took %d writes", dials, n)
	}
}

func TestStreamsCarryBytesBothWaysAndHalfClose(t *testing.T) {
	h, g := stream(connectedPair(t))
	data := make([]byte, 9<<20)
	rand.Read(data)
	go func() {
		io.Copy(g, g)
		g.CloseWrite()
	}()
	go func() {
		h.Write(data)
		h.CloseWrite()
	}()
	got, err := io.ReadAll(h)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes of %d came back, %v", len(got), len(data), err)
	}
}

func connectedPair(t *testing.T) (*testing.T, *Session, *Server) {
	s, g := connected(t)
	return t, s, g
}

func TestAWriterLearnsThatItsReaderIsGone(t *testing.T) {
	h, g := stream(connectedPair(t))
	wrote := make(chan error, 1)
	go func() {
		_, err := io.Copy(g, zero{})
		wrote <- err
	}()
	if _, err := io.ReadFull(h, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	h.Close()
	if err := <-wrote; !errors.Is(err, syscall.EPIPE) {
		t.Fatalf("writing to a closed stream: %v", err)
	}
	<-g.Done()
	if _, err := h.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("reading after Close: %v", err)
	}
	g.Close()
}

type zero struct{}

func (zero) Read(b []byte) (int, error) { return len(b), nil }

func TestCloseWakesAReader(t *testing.T) {
	h, _ := stream(connectedPair(t))
	read := make(chan error, 1)
	go func() {
		_, err := h.Read(make([]byte, 1))
		read <- err
	}()
	h.Close()
	if err := <-read; !errors.Is(err, net.ErrClosed) {
		t.Fatalf("read ended with %v", err)
	}
}

func TestAReadDeadlineIsTheStandardOne(t *testing.T) {
	h, _ := stream(connectedPair(t))
	h.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, err := h.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
}

func TestABrokenSessionIsNoEndOfInput(t *testing.T) {
	session, server := connected(t)
	h, g := stream(t, session, server)
	h2, g2 := stream(t, session, server)
	io.WriteString(h, "part")
	io.WriteString(h2, "whole")
	h2.CloseWrite()
	<-settle(t, session, server)
	if _, err := io.ReadFull(g, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	session.Close()
	if _, err := io.ReadAll(h); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the host's stream ended with %v", err)
	}
	server.Close()
	if _, err := g.Read(make([]byte, 1)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the guest's stream ended with %v", err)
	}
	if b, err := io.ReadAll(g2); string(b) != "whole" || err != nil {
		t.Errorf("the stream that had ended gave %q, %v", b, err)
	}
}

// settle is closed when the guest has handled all that the host sent before.
func settle(t *testing.T, session *Session, server *Server) <-chan struct{} {
	t.Helper()
	h, g := stream(t, session, server)
	done := make(chan struct{})
	go func() {
		g.CloseWrite()
		io.Copy(io.Discard, h)
		close(done)
	}()
	return done
}

func TestAGuestOfAnotherVersionIsRefusedByName(t *testing.T) {
	h, g := pair(t)
	session, err := Attach(h)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	begin := make([]byte, padding+headLen+tailLen)
	if _, err := io.ReadFull(g, begin); err != nil {
		t.Fatal(err)
	}
	e := epoch(begin[padding+8:])
	accept := control(kindAccept, &e)
	binary.BigEndian.PutUint32(accept[8+epochLen:], version+41)
	if _, err := g.Write(append([]byte("stale"), accept...)); err != nil {
		t.Fatal(err)
	}
	<-session.Done()
	_, err = session.Dial(t.Context(), 1)
	if err == nil || !strings.Contains(err.Error(), "version 42") {
		t.Errorf("dialling a guest of version 42: %v", err)
	}
}

func TestAGuestAcceptsAHostOfAnyVersion(t *testing.T) {
	h, g := pair(t)
	server := Serve(g)
	defer server.Close()
	e := epoch{3, 1, 4}
	reset := control(kindReset, &e)
	binary.BigEndian.PutUint32(reset[8+epochLen:], version+41)
	if _, err := h.Write(append(make([]byte, padding), reset...)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, headLen+tailLen)
	if _, err := io.ReadFull(h, got); err != nil || !bytes.Equal(got, control(kindAccept, &e)) {
		t.Errorf("the guest answered %x, %v", got, err)
	}
}

// Bytes that are not aligned cost an emulated processor dearly.
func TestBulkBytesStayAligned(t *testing.T) {
	const word = 8
	for name, n := range map[string]int{
		"the data of a frame": headLen + muxHeader, "the tail": tailLen, "a full write": MaxWrite,
	} {
		if n%word != 0 {
			t.Errorf("%s: %d bytes are no multiple of %d", name, n, word)
		}
	}
	c := &conn{body: make([]byte, 100), fresh: true}
	if n, err := c.Read(make([]byte, 4096)); n != muxHeader || err != nil {
		t.Errorf("the first read of a frame gave %d bytes, %v; want yamux's header alone", n, err)
	}
	if n, err := c.Read(make([]byte, 4096)); n != 100-muxHeader || err != nil {
		t.Errorf("the second gave %d bytes, %v; want the rest", n, err)
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	h, _ := pair(t) // nobody serves the other end
	session, err := Attach(h)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	cancel(stop)
	if _, err := session.Dial(ctx, 1); err != nil && !errors.Is(err, stop) {
		t.Fatalf("dialling ended with %v", err)
	}
}

func TestTheDoorbellIsHeardAmongNoiseAndLeavesTheRest(t *testing.T) {
	h, g := pair(t)
	go func() {
		io.WriteString(g, "SeaBIOS AEGIS AEGIS GUEST")
		Ring(g)
		io.WriteString(g, "rest")
	}()
	if err := AwaitDoorbell(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4)
	if _, err := io.ReadFull(h, b); string(b) != "rest" {
		t.Fatalf("after the bell came %q, %v", b, err)
	}
	go io.Copy(g, zero{})
	if err := AwaitDoorbell(t.Context(), h); !errors.Is(err, ErrNoDoorbell) {
		t.Fatalf("noise without a bell: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	quiet, _ := pair(t)
	if err := AwaitDoorbell(ctx, quiet); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a silent guest: %v", err)
	}
}

// sink keeps what is written to it, one item a write.
type sink struct{ writes [][]byte }

func (s *sink) Write(b []byte) (int, error) {
	s.writes = append(s.writes, bytes.Clone(b))
	return len(b), nil
}
func (*sink) Read([]byte) (int, error) { return 0, io.EOF }
func (*sink) Close() error             { return nil }

func TestABodyOfManyFramesHasAHeaderInEach(t *testing.T) {
	out := &sink{}
	c := &conn{p: newPipe(out, nil)}
	body := make([]byte, 2*MaxWrite+9)
	rand.Read(body)
	opens, begins := header(muxTypeWindow, muxSYN, 0), header(muxTypeData, 2, uint32(len(body)))
	for _, b := range [][]byte{opens, begins, body[:7], body[7:], header(muxTypeWindow, 0, 1)} {
		if n, err := c.Write(b); n != len(b) || err != nil {
			t.Fatal(n, err)
		}
	}
	var flags []uint16
	var got, want []byte
	for i, w := range out.writes {
		f, n, err := decode(w)
		if err != nil || n != len(w) {
			t.Fatalf("write %d is no whole frame: %v", i, err)
		}
		if i == 0 {
			f.body = bytes.TrimPrefix(f.body, opens) // it waited for what follows
		}
		if i == len(out.writes)-1 {
			want = f.body
			break
		}
		h := f.body[:muxHeader]
		flags = append(flags, binary.BigEndian.Uint16(h[muxFlagsAt:]))
		if n := binary.BigEndian.Uint32(h[muxLenOffset:]); int(n) != len(f.body)-muxHeader {
			t.Errorf("frame %d has %d bytes and says %d", i, len(f.body)-muxHeader, n)
		}
		got = append(got, f.body[muxHeader:]...)
	}
	if !bytes.Equal(got, body) || !bytes.Equal(want, header(muxTypeWindow, 0, 1)) {
		t.Errorf("%d bytes or others went out, then %x", len(got), want)
	}
	if !slices.Equal(flags, []uint16{2, 0, 0, 0}) {
		t.Errorf("the flags of the parts are %v, want those of the whole once", flags)
	}
}
