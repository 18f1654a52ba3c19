package process

import (
	"errors"
	"os"
	"time"

	"github.com/xfeldman/aegisvm/guest/proto"
)

// keepSize is how much of each output of a detached process is kept while
// nobody has dialled it: the last of it.
const keepSize = 256 << 10

// keeper stands for the absent client of a detached process. It gives way to
// whoever dials, as a connection that broke does.
type keeper struct{ Conn }

// Broken says that the stream may be taken over.
func (keeper) Broken() bool { return true }

// SetReadDeadline does nothing: nobody reads from it.
func (keeper) SetReadDeadline(time.Time) error { return nil }

// keepOutput makes the host the one that a detached process waits for.
func (p *process) keepOutput() {
	for _, s := range []*stream{p.streams[proto.Stdout], p.streams[proto.Stderr]} {
		if s != nil {
			s.keepCopied()
		}
	}
}

// outlives tells whether the stream goes on when its client has left.
func (s *stream) outlives() bool {
	return s.process.lifetime == proto.Lifetime_LIFETIME_DETACHED && s.kind != proto.Stdin
}

// left tells whether something was kept of a stream that has ended; s.mu is
// held.
func (s *stream) left() bool { return s.outlives() && s.conn == nil && len(s.pending) > 0 }

// keep makes a keeper follow on client c of a detached process.
func (s *stream) keep(c Conn) {
	s.mu.Lock()
	more := s.outlives() && s.file != nil && s.kept == nil
	s.mu.Unlock()
	if _, kept := c.(keeper); more && !kept {
		go s.serve(keeper{}) // ends with the stream, or when somebody dials it
	}
}

// hoard keeps the last of what the process writes, until somebody dials
// (true) or the stream has ended.
func (s *stream) hoard(f *os.File) (taken bool) {
	buf := make([]byte, 32<<10)
	raw, err := f.SyscallConn()
	for {
		n := 0
		if err == nil {
			n, err = s.read(raw, buf)
		}
		s.pending = last(append(s.pending, buf[:n]...))
		switch expired := errors.Is(err, os.ErrDeadlineExceeded); {
		case expired && s.over():
			err = f.SetReadDeadline(time.Time{}) // the rest waits for nobody
		case err != nil:
			return expired
		}
	}
}

// last cuts b to what is kept of it, now and then.
func last(b []byte) []byte {
	if len(b) < 2*keepSize {
		return b
	}
	return append(b[:0], b[len(b)-keepSize:]...)
}

// remainder gives c what was kept of an output that has ended.
func (s *stream) remainder(c Conn) (broken bool) {
	if s.catchUp(c) == nil {
		c.CloseWrite()
	}
	return false
}
