package process

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/guest/proto/kept"
)

// serveKept carries the stream as package kept does. Once it is kept it stays
// so, for what was read of it is in the source.
func (s *stream) serveKept(c Conn, from uint64) error {
	source, err := s.source()
	if err != nil {
		return err
	}
	return source.Serve(c, from)
}

// source makes the stream a kept one.
func (s *stream) source() (*kept.Source, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.kept != nil:
		return s.kept, nil
	case s.file == nil || s.conn != nil || len(s.pending) > 0:
		return nil, ErrTaken
	}
	raw, err := s.file.SyscallConn()
	if err != nil {
		return nil, err
	}
	s.kept = kept.NewSource(&remains{stream: s, file: s.file, raw: raw})
	go s.endWithProcess(s.file) // ends with the process
	return s.kept, nil
}

// endWithProcess wakes the reader of the pipe when the process has ended,
// however many of its children hold the pipe.
func (s *stream) endWithProcess(f *os.File) {
	<-s.process.done
	f.SetReadDeadline(past)
}

// remains reads the pipe of an output until all holders have closed it, or the
// process has ended and what it left in the pipe was read.
type remains struct {
	stream *stream
	file   *os.File
	raw    syscall.RawConn
}

func (r *remains) Read(b []byte) (int, error) {
	n, err := r.stream.read(r.raw, b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		r.file.SetReadDeadline(time.Time{}) // the rest waits for nobody
		n, err = r.stream.read(r.raw, b)
	}
	if c := r.stream.copies; c != nil && n > 0 {
		c.note(b[:n])
	}
	return n, err
}

// Close is called at the end, or when nobody wants the stream any more.
func (r *remains) Close() error {
	if c := r.stream.copies; c != nil {
		go c.finish() // ends when the client has taken what is under way, or left
	}
	return r.file.Close()
}

// keepCopied makes the stream a kept one of which a client gets a copy.
func (s *stream) keepCopied() {
	s.copies = &copies{}
	// It fails where the pipe is gone: the process has ended before it began.
	_, _ = s.source()
}

// serveStream moves the bytes of one stream over c.
func (p *process) serveStream(c Conn, pre proto.Prelude) error {
	s := p.streams[pre.Kind]
	switch {
	case s == nil:
		return refuse(c, pre, fmt.Errorf("%s: %w", pre.Kind, ErrNotFound))
	case pre.Kept:
		return s.serveKept(c, pre.From)
	case s.copies != nil:
		return s.copies.serve(c)
	}
	return s.serve(c)
}

// refuse tells a host that asks for a kept stream that there is none.
func refuse(c Conn, pre proto.Prelude, why error) error {
	if pre.Kept {
		return errors.Join(why, kept.Refuse(c))
	}
	return why
}
