package forward

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// pair makes two ends of a stream.
func pair(t testing.TB) (a, b *net.UnixConn) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	d, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); d.Close() })
	return c.(*net.UnixConn), d.(*net.UnixConn)
}

// guest serves one connection and gives the host's end.
func guest(t *testing.T, target Target) (host *net.UnixConn, over <-chan error) {
	t.Helper()
	host, theirs := pair(t)
	done := make(chan error, 1)
	go func() { done <- Server{}.Serve(t.Context(), theirs) }()
	if err := WriteTarget(host, target); err != nil {
		t.Fatal(err)
	}
	return host, done
}

func listen(t *testing.T, address string) (*net.TCPListener, uint16) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener), uint16(l.Addr().(*net.TCPAddr).Port)
}

// A program that answers what it has heard when its client has said all.
func TestHalfClosesReachBothSides(t *testing.T) {
	l, port := listen(t, "127.0.0.1:0")
	go func() {
		c, err := l.AcceptTCP()
		if err != nil {
			return
		}
		defer c.Close()
		all, _ := io.ReadAll(c)
		c.Write(bytes.ToUpper(all))
	}()
	host, over := guest(t, Target{Port: port})
	if err := ReadAnswer(host); err != nil {
		t.Fatal(err)
	}
	io.WriteString(host, "half ")
	io.WriteString(host, "closed")
	host.CloseWrite()
	got, err := io.ReadAll(host)
	if err != nil || string(got) != "HALF CLOSED" {
		t.Errorf("%q (%v)", got, err)
	}
	if err := <-over; err != nil {
		t.Error(err)
	}
}

func TestAPortOfTheLoopbackForVersion6IsReached(t *testing.T) {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("this machine has no IPv6: ", err)
	}
	defer l.Close()
	host, _ := guest(t, Target{Port: uint16(l.Addr().(*net.TCPAddr).Port)})
	if err := ReadAnswer(host); err != nil {
		t.Error(err)
	}
}

func TestNobodyThereIsARefusalAndNoEmptyConnection(t *testing.T) {
	l, port := listen(t, "127.0.0.1:0")
	l.Close()
	host, over := guest(t, Target{Port: port})
	if err := ReadAnswer(host); !errors.Is(err, ErrRefused) {
		t.Errorf("answer: %v", err)
	}
	if err := <-over; err != nil {
		t.Error(err)
	}
}

func TestAProgramThatComesLaterIsAwaited(t *testing.T) {
	l, port := listen(t, "127.0.0.1:0")
	address := l.Addr().String()
	l.Close()
	host, _ := guest(t, Target{Port: port, Wait: time.Minute})
	answered := make(chan error, 1)
	go func() { answered <- ReadAnswer(host) }()
	if l, err := net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	} else {
		defer l.Close()
	}
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

// Where somebody tells, the guest looks when it is told, and not before.
func TestAProgramThatIsToldOfIsLookedForThen(t *testing.T) {
	l, port := listen(t, "127.0.0.1:0")
	address := l.Addr().String()
	l.Close()
	woken, watched, stopped := make(chan struct{}), make(chan uint16, 1), make(chan bool, 1)
	s := Server{Watch: func(port uint16) (<-chan struct{}, func(), error) {
		watched <- port
		return woken, func() { stopped <- true }, nil
	}}
	host, theirs := pair(t)
	go s.Serve(t.Context(), theirs)
	if err := WriteTarget(host, Target{Port: port, Wait: time.Minute}); err != nil {
		t.Fatal(err)
	}
	if got := <-watched; got != port {
		t.Errorf("port %d is watched, not %d", got, port)
	}
	woken <- struct{}{} // for nothing
	woken <- struct{}{} // it has looked again: nobody listens yet
	later, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer later.Close()
	go func() {
		select {
		case woken <- struct{}{}:
		case <-t.Context().Done(): // the look before it came late enough
		}
	}()
	if err := ReadAnswer(host); err != nil {
		t.Error(err)
	}
	<-stopped
}

func TestAWatchThatFailsIsNoEndOfTheWait(t *testing.T) {
	l, port := listen(t, "127.0.0.1:0")
	address := l.Addr().String()
	l.Close()
	for name, watch := range map[string]func(uint16) (<-chan struct{}, func(), error){
		"at once": func(uint16) (<-chan struct{}, func(), error) { return nil, nil, errors.New("no") },
		"later": func(uint16) (<-chan struct{}, func(), error) {
			over := make(chan struct{})
			close(over)
			return over, func() {}, nil
		},
	} {
		host, theirs := pair(t)
		go Server{Watch: watch}.Serve(t.Context(), theirs)
		if err := WriteTarget(host, Target{Port: port, Wait: time.Minute}); err != nil {
			t.Fatal(err)
		}
		answered := make(chan error, 1)
		go func() { answered <- ReadAnswer(host) }()
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if err := <-answered; err != nil {
			t.Errorf("%s: %v", name, err)
		}
		l.Close()
	}
}

func TestAWaitEnds(t *testing.T) {
	l, port := listen(t, "127.0.0.1:0")
	l.Close()
	host, _ := guest(t, Target{Port: port, Wait: 20 * time.Millisecond})
	if err := ReadAnswer(host); !errors.Is(err, ErrRefused) {
		t.Errorf("answer: %v", err)
	}
}

func TestDatagramsStayWhole(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	var over sync.WaitGroup
	over.Go(func() {
		b := make([]byte, MaxDatagram)
		for {
			n, from, err := server.ReadFrom(b)
			if err != nil {
				return
			}
			server.WriteTo(b[:n], from)
		}
	})
	host, done := guest(t, Target{Network: UDP, Port: uint16(server.LocalAddr().(*net.UDPAddr).Port)})
	if err := ReadAnswer(host); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, MaxDatagram)
	for _, size := range []int{1, 0, 1400, 9000} {
		sent := bytes.Repeat([]byte{byte(size)}, size)
		if err := WriteDatagram(host, sent); err != nil {
			t.Fatal(err)
		}
		n, err := ReadDatagram(host, b)
		if err != nil || !bytes.Equal(b[:n], sent) {
			t.Errorf("%d bytes came back as %d (%v)", size, n, err)
		}
	}
	host.CloseWrite() // the flow is over
	if err := <-done; err != nil {
		t.Error(err)
	}
	server.Close()
	over.Wait()
}

func TestAGuestThatGoesEndsItsConnections(t *testing.T) {
	l, port := listen(t, "127.0.0.1:0")
	host, theirs := pair(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Server{}.Serve(ctx, theirs) }()
	if err := WriteTarget(host, Target{Port: port}); err != nil {
		t.Fatal(err)
	}
	if err := ReadAnswer(host); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	cancel()
	<-done
	if _, err := host.Read(make([]byte, 1)); err != io.EOF && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read: %v", err)
	}
}

func TestTargetsAndAnswersAreReadAsWritten(t *testing.T) {
	for _, want := range []Target{{TCP, 80, 0}, {UDP, 65535, 15 * time.Second}} {
		var b bytes.Buffer
		if err := WriteTarget(&b, want); err != nil {
			t.Fatal(err)
		}
		b.WriteString("rest")
		if got, err := ReadTarget(&b); err != nil || got != want || b.String() != "rest" {
			t.Errorf("%v was read as %v (%v), rest %q", want, got, err, b.String())
		}
	}
	var b bytes.Buffer
	writeAnswer(&b, errors.New("no\x1b[31m route "+strings.Repeat("x", 300)))
	b.WriteString("rest")
	err := ReadAnswer(&b)
	if err == nil || strings.ContainsRune(err.Error(), '\x1b') || len(err.Error()) > maxWords || b.String() != "rest" {
		t.Errorf("%v, rest %q", err, b.String())
	}
}

// What a host or a guest may send is no panic, and what was taken is what
// would be written.
func FuzzRead(f *testing.F) {
	f.Add([]byte("AGF1\x00\x00\x50\x00\x00\x00\x00"))
	f.Add([]byte("\x02\x03abc"))
	f.Add([]byte("\x00\x05hello"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if target, err := ReadTarget(bytes.NewReader(b)); err == nil {
			var again bytes.Buffer
			if err := WriteTarget(&again, target); err != nil || !bytes.Equal(again.Bytes(), b[:headLen]) {
				t.Errorf("%q is %v, written %q (%v)", b, target, again.Bytes(), err)
			}
		}
		_ = ReadAnswer(bytes.NewReader(b))
		room := make([]byte, MaxDatagram)
		if n, err := ReadDatagram(bytes.NewReader(b), room); err == nil {
			var again bytes.Buffer
			if err := WriteDatagram(&again, room[:n]); err != nil || !bytes.Equal(again.Bytes(), b[:2+n]) {
				t.Errorf("%q is %q, written %q (%v)", b, room[:n], again.Bytes(), err)
			}
		}
	})
}
