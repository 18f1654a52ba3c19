package guestsession_test

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/xfeldman/aegisvm/daemons/aegisd/guestsession"
	"github.com/xfeldman/aegisvm/guest/proto"
)

// guest is one that lies as a test tells it.
type guest struct {
	hello *proto.HelloResponse
	exit  *proto.ExitStatus
	list  *proto.ListResponse
	err   error
	hang  <-chan struct{} // no answer until it is closed
}

func (g *guest) Activity(context.Context, *proto.Empty) (*proto.ActivityResponse, error) {
	return &proto.ActivityResponse{CpuNanos: 1<<63 + 5, NetworkBytes: 6, DiskBytes: 7}, g.answer()
}

func (g *guest) answer() error {
	if g.hang != nil {
		<-g.hang
	}
	return g.err
}

func (g *guest) Hello(ctx context.Context, _ *proto.HelloRequest) (*proto.HelloResponse, error) {
	if g.hello != nil {
		return g.hello, nil
	}
	return &proto.HelloResponse{Version: proto.Version, BootId: "boot"}, nil
}

func (g *guest) SetIdentity(ctx context.Context, _ *proto.Identity) (*proto.Empty, error) {
	return &proto.Empty{}, g.answer()
}

func (g *guest) Start(ctx context.Context, _ *proto.StartRequest) (*proto.StartResponse, error) {
	return &proto.StartResponse{}, g.answer()
}

func (g *guest) Wait(ctx context.Context, _ *proto.WaitRequest) (*proto.ExitStatus, error) {
	return g.exit, g.answer()
}

func (g *guest) Signal(ctx context.Context, _ *proto.SignalRequest) (*proto.Empty, error) {
	return &proto.Empty{}, g.answer()
}

func (g *guest) Resize(context.Context, *proto.ResizeRequest) (*proto.Empty, error) {
	return &proto.Empty{}, g.answer()
}

func (g *guest) List(context.Context, *proto.Empty) (*proto.ListResponse, error) {
	return g.list, g.answer()
}

func (g *guest) SetTime(context.Context, *proto.Time) (*proto.Empty, error) {
	return &proto.Empty{}, g.answer()
}

func (g *guest) Poweroff(ctx context.Context, _ *proto.PoweroffRequest) (*proto.Empty, error) {
	return &proto.Empty{}, g.answer()
}

// pair makes a connection; the guest's end goes to serve.
func pair(t *testing.T, serve func(net.Conn)) guestsession.Dial {
	return func(context.Context, uint32) (*os.File, error) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			return nil, err
		}
		end := os.NewFile(uintptr(fds[1]), "guest")
		defer end.Close()
		conn, err := net.FileConn(end)
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { conn.Close() })
		serve(conn)
		return os.NewFile(uintptr(fds[0]), "host"), nil
	}
}

// speaking serves the contract on each connection.
func speaking(t *testing.T, g *guest) guestsession.Dial {
	return pair(t, func(conn net.Conn) {
		server, err := ttrpc.NewServer()
		if err != nil {
			t.Fatal(err)
		}
		proto.RegisterGuestService(server, g)
		ctx, cancel := context.WithCancel(context.Background())
		t.Cleanup(func() { cancel(); server.Close() })
		go server.Serve(ctx, &once{conn: conn, done: ctx.Done()}) // ends with the test
	})
}

// once is a listener with one connection.
type once struct {
	conn net.Conn
	done <-chan struct{}
}

func (l *once) Accept() (net.Conn, error) {
	if c := l.conn; c != nil {
		l.conn = nil
		return c, nil
	}
	<-l.done
	return nil, net.ErrClosed
}
func (l *once) Close() error   { return nil }
func (l *once) Addr() net.Addr { return &net.UnixAddr{} }

func open(t *testing.T, g *guest) *guestsession.Session {
	t.Helper()
	s, err := guestsession.Open(t.Context(), speaking(t, g))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestGuestOfAnotherContractIsRefused(t *testing.T) {
	_, err := guestsession.Open(t.Context(), speaking(t, &guest{hello: &proto.HelloResponse{Version: 7042}}))
	if err == nil || !strings.Contains(err.Error(), "contract version 7042") {
		t.Errorf("open: %v", err)
	}
}

func TestGuestThatDoesNotSpeakTheContractFails(t *testing.T) {
	for name, serve := range map[string]func(net.Conn){
		"hangs up": func(c net.Conn) { c.Close() },
		"garbage":  func(c net.Conn) { c.Write([]byte(strings.Repeat("\xff", 4096))) },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			if s, err := guestsession.Open(ctx, pair(t, serve)); err == nil {
				s.Close()
				t.Error("a session was opened")
			}
		})
	}
}

func TestGuestThatIsSilentIsGivenUp(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := guestsession.Open(ctx, pair(t, func(net.Conn) {}))
	if err == nil || !strings.Contains(err.Error(), "did not answer in time") {
		t.Errorf("open: %v", err)
	}
}

func TestCallThatIsNotAnsweredEndsTheSession(t *testing.T) {
	s := open(t, &guest{hang: t.Context().Done()})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Signal(ctx, "main", 15); err == nil {
		t.Error("signal succeeded")
	}
	if err := s.Signal(t.Context(), "main", 15); err == nil {
		t.Error("a call after it succeeded")
	}
}

func TestRepliesAreBounded(t *testing.T) {
	s := open(t, &guest{exit: &proto.ExitStatus{Code: 1<<31 + 3, Signal: 1<<31 + 9, Message: "\x1b[31m" + strings.Repeat("a\n", 10_000)}})
	st, err := s.Wait(t.Context(), "main")
	if err != nil {
		t.Fatal(err)
	}
	if st.Code != 3 || st.Signal != 9 || len(st.Message) > 512 || strings.ContainsAny(st.Message, "\n\x1b") {
		t.Errorf("status: %+v", st)
	}
}

func TestErrorsOfTheGuestAreOneCleanLine(t *testing.T) {
	s := open(t, &guest{err: status.Error(codes.Internal, "bad\n\x1b]0;title\a"+strings.Repeat("x", 5000))})
	err := s.Start(t.Context(), guestsession.Process{ID: "main", Argv: []string{"x"}})
	if err == nil || len(err.Error()) > 600 || strings.ContainsAny(err.Error(), "\n\x1b\a") || !strings.HasPrefix(err.Error(), "starting the program: bad") {
		t.Errorf("start: %q", err)
	}
}

func TestUnknownProcessIsToldApart(t *testing.T) {
	s := open(t, &guest{err: status.Error(codes.NotFound, "no process")})
	if _, err := s.Wait(t.Context(), "main"); !errors.Is(err, guestsession.ErrNoProcess) {
		t.Errorf("wait: %v", err)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	s := open(t, &guest{hang: t.Context().Done()})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Wait(ctx, "main"); !errors.Is(err, context.Canceled) {
		t.Errorf("wait: %v", err)
	}
}

func TestStreamsThatCannotAllBeDialledAreClosed(t *testing.T) {
	var opened []*os.File
	n := make(chan int, 1)
	n <- 0
	dial := func(ctx context.Context, port uint32) (*os.File, error) {
		i := <-n
		n <- i + 1
		if i == 2 {
			return nil, errors.New("nobody listens")
		}
		return pair(t, func(net.Conn) {})(ctx, port)
	}
	streams, err := guestsession.Streams(t.Context(), func(ctx context.Context, port uint32) (*os.File, error) {
		f, err := dial(ctx, port)
		if f != nil {
			i := <-n
			opened = append(opened, f)
			n <- i
		}
		return f, err
	}, "main", true)
	if err == nil || streams != nil || !strings.Contains(err.Error(), "nobody listens") {
		t.Fatalf("streams: %+v, %v", streams, err)
	}
	for _, f := range opened {
		if err := f.Close(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("a stream was left open: %v", err)
		}
	}
}
