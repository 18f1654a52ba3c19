package worker

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/dialer"
	"github.com/xfeldman/aegisvm/vmm/packet"
)

// Sizes of a splice: how much one read takes, and how much a socket pair
// holds, in bytes for each direction.
const (
	spliceBuffer = 128 << 10
	socketBuffer = 256 << 10
	lastBuffer   = 4 << 20
)

// linger is how long the reader of a stream may take for the last bytes of a
// machine that has ended.
const linger = 3 * time.Second

// connect dials a guest port and gives a descriptor of the stream: the
// driver's own socket where it has one, else one end of a socket pair whose
// other end is spliced.
func (s *server) connect(ctx context.Context, m vmm.Machine, port uint32) (*os.File, error) {
	c, err := m.Connect(ctx, port)
	if err != nil {
		return nil, err
	}
	if u, ok := c.(*net.UnixConn); ok {
		defer u.Close()
		f, err := u.File()
		if err != nil {
			return nil, fmt.Errorf("passing the stream of port %d: %w", port, err)
		}
		return f, nil
	}
	ours, theirs, err := socketPair()
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("connecting to port %d: %w", port, err)
	}
	s.conns.Add(1)
	go func() {
		defer s.conns.Done()
		splice(ours, c, s.ctx.Done())
	}()
	return theirs, nil
}

// serveDialer makes the connection that asked for it one of package dialer.
func (s *server) serveDialer(c *net.UnixConn, port uint32) {
	m, report, _ := s.now()
	if m == nil {
		packet.Send(c, response{Error: api.Errorf(api.BadState, "the machine is %s: it must run", report.State)})
		return
	}
	if packet.Send(c, response{Info: &report}) != nil {
		return
	}
	dialer.Serve(s.ctx, c, func(ctx context.Context) (*os.File, error) {
		f, err := s.connect(ctx, m, port)
		if err = s.endedMeanwhile(err); err != nil {
			return nil, asError(err)
		}
		return f, nil
	})
}

func socketPair() (ours *net.UnixConn, theirs *os.File, err error) {
	syscall.ForkLock.RLock()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	for _, fd := range fds {
		// Best effort: another size is only slower.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, socketBuffer)
	}
	_ = unix.SetNonblock(fds[1], true) // so that Go programs wait for it without a thread
	theirs = os.NewFile(uintptr(fds[1]), "guest stream")
	mine := os.NewFile(uintptr(fds[0]), "worker's end")
	defer mine.Close()
	c, err := net.FileConn(mine)
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("making a socket pair: %w", err)
	}
	return c.(*net.UnixConn), theirs, nil
}

// splice copies both ways until both directions have ended, each handing its
// end on as a half-close. A local reader that is gone does not stop the
// guest: its bytes are read and dropped, so that it never blocks. When the
// machine has ended (done), what it had said still goes to a reader that
// takes it within linger. A stream that broke ends like one that the guest
// has closed, for a socket has no other end: whoever must tell the two apart
// compares what came with what the process's status says.
func splice(local *net.UnixConn, guest vmm.Conn, done <-chan struct{}) {
	defer local.Close()
	defer guest.Close()
	fromGuest, toGuest := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(toGuest)
		copyHalf(guest, local)
		guest.CloseWrite()
	}()
	go func() {
		defer close(fromGuest)
		if copyHalf(local, guest) != nil {
			io.Copy(io.Discard, onlyReader{guest})
		}
		local.CloseWrite()
	}()
	select {
	case <-fromGuest:
	case <-done:
		// The socket keeps what we leave in it when we are gone: with a
		// larger buffer the rest fits in, and no reader has to be waited for.
		_ = local.SetWriteBuffer(lastBuffer)
		local.SetWriteDeadline(time.Now().Add(linger))
		defer time.AfterFunc(linger, func() { guest.Close() }).Stop()
		<-fromGuest
	}
	select {
	case <-toGuest:
	case <-done:
		local.CloseRead()
		guest.Close()
		<-toGuest
	}
}

// copyHalf copies one direction with a large buffer; the wrappers keep
// io.CopyBuffer from choosing another way with a small one. Its error is that
// of the writer.
func copyHalf(to io.Writer, from io.Reader) error {
	w := &failingWriter{w: to}
	io.CopyBuffer(w, onlyReader{from}, make([]byte, spliceBuffer))
	return w.err
}

type onlyReader struct{ io.Reader }

type failingWriter struct {
	w   io.Writer
	err error
}

func (w *failingWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.err = err
	return n, err
}
