package process

import (
	"errors"
	"io"
	"os"
	"syscall"
	"time"

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
// closed it, or the process has ended and the pipe is empty.
func (s *stream) output(c Conn, f *os.File) (broken bool) {
	buf := make([]byte, chunk)
	n := copy(buf, s.pending)
	s.pending = nil
	var rerr error
	for {
		if m, werr := c.Write(buf[:n]); werr != nil {
			s.pending = append([]byte(nil), buf[m:n]...)
			return !errors.Is(werr, syscall.EPIPE)
		}
		switch {
		case rerr == nil:
			n, rerr = f.Read(buf)
		case errors.Is(rerr, os.ErrDeadlineExceeded) && s.over():
			n, rerr = rest(f, buf)
		case errors.Is(rerr, os.ErrDeadlineExceeded):
			return dead(c)
		default:
			c.CloseWrite()
			return false
		}
	}
}

// rest reads what is in the pipe without waiting: io.EOF when it is empty.
func rest(f *os.File, buf []byte) (int, error) {
	f.SetReadDeadline(time.Time{})
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	n := 0
	if err := raw.Read(func(fd uintptr) bool {
		n, _ = syscall.Read(int(fd), buf)
		return true
	}); err != nil {
		return 0, err
	}
	if n <= 0 {
		return 0, io.EOF
	}
	return n, os.ErrDeadlineExceeded // there may be more
}
