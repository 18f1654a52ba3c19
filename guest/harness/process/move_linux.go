package process

import (
	"errors"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/guest/proto/link"
)

// chunk is how much is moved at once: a few whole frames of a serial link.
const chunk = 4 * link.MaxWrite

// input moves bytes from c to the pipe f, until c ends or the process does.
func (s *stream) input(c Conn, f *os.File) (broken bool) {
	buf := make([]byte, chunk)
	n := 0
	var rerr error
	for {
		if _, err := f.Write(buf[:n]); err != nil {
			return false // nobody reads the pipe any more
		}
		if rerr != nil {
			return !errors.Is(rerr, io.EOF)
		}
		n, rerr = c.Read(buf)
	}
}

// output moves bytes from the pipe f to c, until all holders of the pipe have
// closed it, or the process has ended and what it left in the pipe was moved.
func (s *stream) output(c Conn, f *os.File) (broken bool) {
	if err := s.catchUp(c); err != nil {
		return s.outlives() || !errors.Is(err, syscall.EPIPE)
	}
	buf := make([]byte, chunk)
	n := 0
	raw, rerr := f.SyscallConn()
	for {
		if m, werr := c.Write(buf[:n]); werr != nil {
			s.pending = append([]byte(nil), buf[m:n]...)
			return s.outlives() || !errors.Is(werr, syscall.EPIPE)
		}
		switch {
		case rerr == nil:
			n, rerr = s.read(raw, buf)
		case errors.Is(rerr, os.ErrDeadlineExceeded) && s.over():
			f.SetReadDeadline(time.Time{}) // the rest waits for nobody
			n, rerr = s.read(raw, buf)
		case errors.Is(rerr, os.ErrDeadlineExceeded):
			return s.outlives() || dead(c)
		default:
			c.CloseWrite()
			return false
		}
	}
}

// catchUp writes what was taken from the pipe before.
func (s *stream) catchUp(c Conn) error {
	n, err := c.Write(s.pending)
	if s.pending = s.pending[n:]; len(s.pending) == 0 {
		s.pending = nil // and its memory
	}
	return err
}

// read takes bytes from the pipe. It returns io.EOF when all its holders have
// closed it, or all that the stream carries was taken.
func (s *stream) read(raw syscall.RawConn, buf []byte) (n int, err error) {
	waited := raw.Read(func(fd uintptr) bool {
		n, err = s.draw(int(fd), buf)
		return !errors.Is(err, syscall.EAGAIN)
	})
	if waited != nil {
		return 0, waited
	}
	return n, err
}

// draw is one read that does not wait, counted.
func (s *stream) draw(fd int, buf []byte) (int, error) {
	s.counting.Lock()
	defer s.counting.Unlock()
	if s.sealed {
		buf = buf[:min(int64(len(buf)), s.total-s.taken)]
	}
	if len(buf) == 0 {
		return 0, io.EOF
	}
	n, err := syscall.Read(fd, buf)
	for errors.Is(err, syscall.EINTR) {
		n, err = syscall.Read(fd, buf)
	}
	switch {
	case err != nil && s.sealed && s.kind == proto.Terminal:
		return 0, io.EOF
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	s.taken += int64(n)
	return n, nil
}

// seal fixes, when the process has ended, how much the stream carries: what
// was taken of the pipe and what is in it now. Whoever else holds the pipe
// writes for nobody from then on, so that it cannot keep the stream from
// ending.
func (s *stream) seal() int64 {
	if s == nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counting.Lock()
	defer s.counting.Unlock()
	s.sealed, s.total = true, s.taken
	switch {
	case s.file == nil:
	case s.kind == proto.Terminal:
		s.total += pipeSize // nobody knows; the end is where a read finds nothing
	default:
		s.total += int64(waiting(s.file))
	}
	return s.total
}

// waiting is how many bytes are in a pipe.
func waiting(f *os.File) (n int) {
	if raw, err := f.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	}
	return n
}
