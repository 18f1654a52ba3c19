package kept_test

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	mathrand "math/rand/v2"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/xfeldman/aegisvm/guest/proto/kept"
)

// pair is a connection: the guest's end and the host's.
func pair(t *testing.T) (guest, host *net.UnixConn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	conn := func(fd int) *net.UnixConn {
		f := os.NewFile(uintptr(fd), "pair")
		defer f.Close()
		c, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c.(*net.UnixConn)
	}
	return conn(fds[0]), conn(fds[1])
}

// process is a source whose process the test is.
type process struct {
	*testing.T
	*kept.Source
	out *io.PipeWriter
}

func newProcess(t *testing.T) process {
	r, w := io.Pipe()
	p := process{t, kept.NewSource(r), w}
	t.Cleanup(func() { w.Close(); p.Close() })
	return p
}

// dial gives a sink and what Serve will return.
func (p process) dial(from uint64) (*kept.Sink, net.Conn, <-chan error) {
	p.Helper()
	s, host, served, err := p.tryDial(from)
	if err != nil {
		p.Fatal(err)
	}
	return s, host, served
}

func (p process) tryDial(from uint64) (*kept.Sink, net.Conn, <-chan error, error) {
	p.Helper()
	guest, host := pair(p.T)
	served := make(chan error, 1)
	go func() { served <- p.Serve(guest, from) }()
	s, err := kept.NewSink(host, from)
	return s, host, served, err
}

func read(t *testing.T, r io.Reader, n int) string {
	t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestWhatWasNotAcknowledgedComesAgain(t *testing.T) {
	p := newProcess(t)
	go io.WriteString(p.out, "0123456789")
	s, host, served := p.dial(0)
	if got := read(t, s, 10); got != "0123456789" || s.Start != 0 {
		t.Fatalf("read %q from %d", got, s.Start)
	}
	s.Stored(4)
	host.Close()
	if err := <-served; !errors.Is(err, kept.ErrGone) && err == nil {
		t.Errorf("serve: %v", err)
	}
	s, host, _ = p.dial(2) // a host that does not know what it acknowledged
	if got := read(t, s, 6); got != "456789" || s.Start != 4 {
		t.Errorf("read %q from %d", got, s.Start)
	}
	host.Close()
	s, _, served = p.dial(7) // one that stored more than it could say
	p.out.Close()
	rest, err := io.ReadAll(s)
	if string(rest) != "789" || s.Start != 7 || err != nil || p.Finished() {
		t.Errorf("read %q from %d, %v", rest, s.Start, err)
	}
	s.Stored(10)
	if err := <-served; err != nil || !p.Finished() {
		t.Errorf("serve: %v", err)
	}
	guest, host := pair(t)
	go p.Serve(guest, 10)
	if _, err := kept.NewSink(host, 10); !errors.Is(err, kept.ErrRefused) {
		t.Errorf("behind the end: %v", err)
	}
}

func TestANewConnectionTakesOverFromOneThatNobodyReads(t *testing.T) {
	p := newProcess(t)
	_, _, old := p.dial(0)
	data := make([]byte, 3*kept.Window)
	rand.Read(data)
	go func() {
		p.out.Write(data)
		p.out.Close()
	}()
	s, _, served := p.dial(0)
	if err := <-old; err == nil {
		t.Error("the old connection was served to its end")
	}
	got := make([]byte, 0, len(data))
	buf := make([]byte, 10000)
	for {
		n, err := s.Read(buf)
		got = append(got, buf[:n]...)
		s.Stored(uint64(len(got)))
		if err != nil {
			break
		}
	}
	if !bytes.Equal(got, data) {
		t.Errorf("%d bytes of %d came, or others", len(got), len(data))
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// A host that is killed at any byte and comes back with what it has stored
// gets every byte once.
func TestAHostThatIsKilledAgainAndAgainGetsEveryByteOnce(t *testing.T) {
	p := newProcess(t)
	data := make([]byte, 2<<20)
	rand.Read(data)
	go func() {
		p.out.Write(data)
		p.out.Close()
	}()
	rng := mathrand.New(mathrand.NewPCG(1, 2))
	var stored []byte
	for life := 0; ; life++ {
		s, host, _, err := p.tryDial(uint64(len(stored)))
		if errors.Is(err, kept.ErrRefused) {
			break // that was all
		}
		if err != nil || s.Start != uint64(len(stored)) {
			t.Fatalf("life %d goes on at %+v, has %d: %v", life, s, len(stored), err)
		}
		for range rng.IntN(20) {
			b := make([]byte, 1+rng.IntN(40000))
			n, err := s.Read(b)
			stored = append(stored, b[:n]...)
			if rng.IntN(2) == 0 {
				s.Stored(uint64(len(stored)))
			}
			if err != nil {
				break
			}
		}
		host.Close()
	}
	if !bytes.Equal(stored, data) {
		t.Errorf("%d bytes of %d came, or others", len(stored), len(data))
	}
}

func TestAGuestKeepsNoMoreThanTheWindow(t *testing.T) {
	p := newProcess(t)
	wrote := make(chan int, 1)
	go func() {
		n, _ := p.out.Write(make([]byte, 2*kept.Window))
		wrote <- n
	}()
	s, _, _ := p.dial(0)
	io.ReadFull(s, make([]byte, kept.Window))
	p.out.CloseWithError(io.ErrClosedPipe) // ends the write where it waits
	if n := <-wrote; n > kept.Window+64<<10 {
		t.Errorf("%d bytes were taken without an acknowledgement", n)
	}
}

func TestAHostThatLiesIsLeft(t *testing.T) {
	p := newProcess(t)
	go io.WriteString(p.out, "0123456789")
	guest, _ := pair(t)
	if err := p.Serve(guest, 1); !errors.Is(err, kept.ErrOffset) {
		t.Errorf("an offset behind the end: %v", err)
	}
	s, _, served := p.dial(0)
	read(t, s, 10)
	s.Stored(11)
	if err := <-served; !errors.Is(err, kept.ErrGone) {
		t.Errorf("an acknowledgement of what was not there: %v", err)
	}
}

func TestAGuestThatLiesIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		answer []byte
		want   error
	}{
		"nothing":               {nil, io.ErrUnexpectedEOF},
		"half an offset":        {[]byte{0, 0, 0}, io.ErrUnexpectedEOF},
		"a refusal":             {bytes.Repeat([]byte{0xff}, 8), kept.ErrRefused},
		"an offset from before": {binary.BigEndian.AppendUint64(nil, 4), kept.ErrStart},
	} {
		guest, host := pair(t)
		guest.Write(c.answer)
		guest.Close()
		if _, err := kept.NewSink(host, 5); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCloseEndsEverything(t *testing.T) {
	p := newProcess(t)
	_, _, served := p.dial(0)
	wrote := make(chan error, 1)
	go func() {
		_, err := p.out.Write(make([]byte, 2*kept.Window))
		wrote <- err
	}()
	p.Close()
	if err := <-wrote; err == nil {
		t.Error("all was read after Close")
	}
	if err := <-served; err == nil {
		t.Error("the stream was served to its end")
	}
	p.Settled()
}
