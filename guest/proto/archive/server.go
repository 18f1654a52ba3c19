package archive

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/xfeldman/aegisvm/guest/proto"
)

// maxCopies is how many copies a guest makes at once.
const maxCopies = 64

// patience is how long a copy waits to be dialled, and its end to be fetched.
const patience = 30 * time.Second

// Errors of Server beside those of package io/fs.
var (
	ErrInvalid = errors.New("cannot be copied")
	ErrUnknown = errors.New("no such copy")
	ErrExists  = errors.New("there is such a copy already")
	ErrMany    = errors.New("too many copies are made already")
)

// Conn is a dialled stream.
type Conn interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// Server makes the copies of a guest. Its methods may be called from several
// goroutines.
type Server struct {
	root string

	mu     sync.Mutex // guards the field below
	copies map[string]*transfer
}

// NewServer makes a server of the files below root.
func NewServer(root string) *Server { return &Server{root: root, copies: map[string]*transfer{}} }

// transfer is one copy: its streams are dialled by its id.
type transfer struct {
	run     func(io.ReadWriter) (proto.End, error)
	release func()
	begun   bool
	done    chan struct{} // closed after end is set
	end     proto.End
	timer   *time.Timer
}

// Out prepares a copy out of the guest; see Find.
func (s *Server) Out(id, path string, follow bool) error {
	src, err := Find(s.root, path, follow)
	if err != nil {
		return err
	}
	return s.add(id, &transfer{release: src.Close, run: func(c io.ReadWriter) (proto.End, error) {
		counted := &counter{w: c}
		err := src.Pack(counted)
		return proto.End{Output: &proto.Output{Stdout: counted.n}}, err
	}})
}

// In prepares a copy into the guest; see To. extract says that the archive is
// to be unpacked as it is, rather than as one item.
func (s *Server) In(id, path string, extract, owner bool) error {
	to, err := To(s.root, path)
	if err != nil {
		return err
	}
	if extract && !to.IsFolder() {
		to.Close()
		return fmt.Errorf("%w: %s is no folder to unpack an archive in", ErrInvalid, quote(path))
	}
	o := Options{Owner: owner, Setid: true, Capabilities: true}
	return s.add(id, &transfer{release: to.Close, run: func(c io.ReadWriter) (proto.End, error) {
		if extract {
			return proto.End{}, to.Extract(c, o)
		}
		return proto.End{}, to.Receive(c, "", o)
	}})
}

func (s *Server) add(id string, t *transfer) error {
	t.done = make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	err := error(nil)
	switch {
	case id == "" || len(id) > proto.MaxID:
		err = fmt.Errorf("%w: id of %d bytes, 1 to %d expected", ErrInvalid, len(id), proto.MaxID)
	case s.copies[id] != nil:
		err = fmt.Errorf("copy %q: %w", id, ErrExists)
	case len(s.copies) >= maxCopies:
		err = fmt.Errorf("copy %q: %w: at most %d", id, ErrMany, maxCopies)
	}
	if err != nil {
		t.release()
		return err
	}
	s.copies[id] = t
	t.timer = time.AfterFunc(patience, func() { s.expire(id, t) })
	return nil
}

// expire forgets a copy that nobody has dialled, or whose end nobody fetched.
func (s *Server) expire(id string, t *transfer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.copies[id] != t {
		return
	}
	select {
	case <-t.done:
	default:
		if t.begun {
			return // its end sets the timer anew
		}
		t.begun = true
		t.end = failed("nobody dialled its bytes")
		t.release()
		close(t.done)
	}
	delete(s.copies, id)
}

// Has tells whether there is a copy of that id.
func (s *Server) Has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.copies[id] != nil
}

// Serve serves a stream of a copy, which it closes: its bytes or its status.
func (s *Server) Serve(c Conn, pre proto.Prelude) error {
	defer c.Close()
	s.mu.Lock()
	t := s.copies[pre.Process]
	first := t != nil && !t.begun
	if first && pre.Kind == proto.Archive {
		t.begun = true
	}
	s.mu.Unlock()
	switch {
	case t == nil:
		return fmt.Errorf("copy %q: %w", pre.Process, ErrUnknown)
	case pre.Kind == proto.Status:
		return s.tell(pre.Process, t, c)
	case !first:
		return fmt.Errorf("copy %q: its bytes are taken", pre.Process)
	}
	t.serve(c)
	t.timer.Reset(patience)
	return nil
}

// serve moves the bytes.
func (t *transfer) serve(c Conn) {
	defer close(t.done)
	defer t.release()
	defer func() {
		if r := recover(); r != nil {
			t.end = failed(fmt.Sprintf("the copy panicked: %v", r))
		}
	}()
	end, err := t.run(c)
	if err != nil {
		end.Code, end.Message = 1, err.Error()
	}
	t.end = end
	if end.Output != nil {
		c.CloseWrite()
	}
}

func failed(why string) proto.End {
	return proto.End{ProcessStatus: proto.ProcessStatus{Code: 1, Message: why}}
}

// tell writes how a copy ended, when it has, and forgets it. A copy ends with
// its bytes' connection, and with its patience before it has one.
func (s *Server) tell(id string, t *transfer, c Conn) error {
	<-t.done
	if err := proto.WriteEnd(c, t.end); err != nil {
		return fmt.Errorf("copy %q: telling its end: %w", id, err)
	}
	t.timer.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.copies[id] == t {
		delete(s.copies, id)
	}
	return c.CloseWrite()
}

// counter counts what is written.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}
