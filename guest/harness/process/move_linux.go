package process

import (
	"errors"
	"io"
	"os"
	"syscall"

	"github.com/xfeldman/aegisvm/guest/harness/quick"
	"github.com/xfeldman/aegisvm/guest/proto/link"
)

// input moves bytes from c to the pipe f, until c ends or the process does.
func (s *stream) input(c Conn, f *quick.File) (broken bool) {
	switch _, err := io.Copy(f, c); {
	case err == nil:
		return false
	case errors.Is(err, syscall.EPIPE) || s.over():
		return false // nobody reads the pipe any more
	}
	return true
}

// output moves bytes from the pipe f to c, until all holders of the pipe have
// closed it, or the process has ended and the pipe is empty.
func (s *stream) output(c Conn, f *quick.File) (broken bool) {
	buf := link.NewBuffer()
	n := copy(buf.Room(), s.pending)
	s.pending = nil
	var rerr error
	for {
		if m, werr := send(c, buf, n); werr != nil {
			s.pending = append([]byte(nil), buf.Room()[:n-m]...)
			return !errors.Is(werr, syscall.EPIPE)
		}
		switch {
		case rerr == nil:
			n, rerr = f.Read(buf.Room())
		case errors.Is(rerr, os.ErrDeadlineExceeded) && s.over():
			n, rerr = rest(f, buf.Room())
		case errors.Is(rerr, os.ErrDeadlineExceeded):
			return dead(c)
		default:
			c.CloseWrite()
			return false
		}
	}
}

// send writes the first n bytes of b; what was not sent stands at its head.
func send(c Conn, b link.Buffer, n int) (int, error) {
	if l, ok := c.(*link.Conn); ok {
		return l.WriteBuffer(b, n)
	}
	m, err := c.Write(b.Room()[:n])
	copy(b.Room(), b.Room()[m:n])
	return m, err
}

// rest reads what is in the pipe without waiting: io.EOF when it is empty.
func rest(f *quick.File, buf []byte) (int, error) {
	n, err := f.ReadNow(buf)
	if n == 0 && err == nil {
		err = io.EOF
	}
	if err != nil {
		return 0, err
	}
	return n, os.ErrDeadlineExceeded // there may be more
}
