package process

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/guest/proto/kept"
)

// Conn is a dialled stream.
type Conn interface {
	net.Conn
	CloseWrite() error
}

// stream is our end of a pipe of a process, and whoever dialled it.
type stream struct {
	process *process
	kind    proto.Kind

	mu   sync.Mutex // guards the fields below
	file *os.File   // nil when all bytes were moved
	// peer is the program's end of a terminal. While it is open, a program that
	// has closed its own has not ended the terminal.
	peer *os.File
	// conn moves the bytes now; released is closed when it has stopped.
	conn     Conn
	released chan struct{}
	// pending are bytes that were taken from the pipe when conn broke, or while
	// nobody had dialled a detached process. They belong to who moves.
	pending []byte
	// kept reads file in place of conn once a host asked for that. copies, set
	// at the start or never, then serves whoever dials the stream plainly.
	kept   *kept.Source
	copies *copies

	counting sync.Mutex // guards the fields below; held while an output's pipe is read
	taken    int64      // bytes that were taken from the pipe
	total    int64      // bytes that there are, once sealed
	sealed   bool
}

// pipeSize is how much a pipe holds, for two chunks.
const pipeSize = 256 << 10

// newStream makes a pipe and returns the program's end of it.
func newStream(p *process, k proto.Kind) (*stream, *os.File, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("making the pipe of %s: %w", k, err)
	}
	// Best effort: with less, a program and the harness switch more often.
	_, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, pipeSize)
	ours, theirs := fds[0], fds[1]
	if k == proto.Stdin {
		ours, theirs = theirs, ours
	}
	unix.SetNonblock(ours, true) // so that its file waits by events
	name := k.String()
	return &stream{process: p, kind: k, file: os.NewFile(uintptr(ours), name)}, os.NewFile(uintptr(theirs), name), nil
}

// ErrTaken says that somebody else has dialled the stream, or has had it.
var ErrTaken = errors.New("the stream is taken")

// serve moves the bytes between the pipe and c until one of them ends. When
// c breaks, the stream can be dialled again and goes on where it was.
func (s *stream) serve(c Conn) error {
	f, err := s.take(c)
	if err != nil {
		s.keep(c)
		return err
	}
	moved := make(chan struct{})
	watched := make(chan struct{})
	go func() { // ends with moved
		defer close(watched)
		s.watch(c, f, moved)
	}()
	broken := s.move(c, f)
	close(moved)
	<-watched
	s.release(broken)
	s.keep(c)
	return nil
}

// take makes c the one that moves the bytes. A former one that is dead is
// waited for, for it is about to stop.
func (s *stream) take(c Conn) (*os.File, error) {
	for {
		s.mu.Lock()
		switch {
		case s.file == nil && !s.left() || s.kept != nil:
			s.mu.Unlock()
			return nil, ErrTaken
		case s.conn == nil:
			s.conn, s.released = c, make(chan struct{})
			f := s.file
			s.mu.Unlock()
			return f, nil
		}
		released, taken := s.released, !dead(s.conn)
		if !taken {
			s.wake(s.file) // while it is that one's
		}
		s.mu.Unlock()
		if taken {
			return nil, ErrTaken
		}
		select {
		case <-released:
		case <-gone(c):
			return nil, ErrTaken
		}
	}
}

// release ends what take began. What has not been moved can be dialled again.
func (s *stream) release(broken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file != nil && broken {
		s.file.SetDeadline(time.Time{})
	} else {
		s.closeFiles()
	}
	s.conn = nil
	close(s.released)
}

// watch wakes move when the process has ended or nobody takes its output any
// more. Input that has arrived is still given to the process.
func (s *stream) watch(c Conn, f *os.File, moved <-chan struct{}) {
	left := gone(c)
	if s.kind == proto.Stdin {
		left = nil
	}
	select {
	case <-s.process.done:
		c.SetReadDeadline(past)
		s.expire(f)
	case <-left:
		s.wake(f)
	case <-moved:
	}
}

// wake makes a process's output be given back if nobody takes it.
func (s *stream) wake(f *os.File) {
	if s.kind != proto.Stdin {
		s.expire(f)
	}
}

func (s *stream) expire(f *os.File) {
	if f != nil {
		f.SetDeadline(past)
	}
}

var past = time.Unix(1, 0)

func (s *stream) over() bool { return s.process.ended() }

// move returns whether c broke before all bytes were moved.
func (s *stream) move(c Conn, f *os.File) (broken bool) {
	_, kept := c.(keeper)
	switch {
	case kept:
		return s.hoard(f)
	case f == nil:
		return s.remainder(c)
	case s.kind == proto.Stdin:
		return s.input(c, f)
	case s.kind == proto.Terminal:
		return s.talk(c, f)
	default:
		return s.output(c, f)
	}
}

// discard forgets the stream.
func (s *stream) discard() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept != nil {
		s.kept.Close()
	} else if s.conn == nil {
		s.closeFiles()
	}
}

// closeFiles closes our ends; s.mu is held.
func (s *stream) closeFiles() {
	if s.file != nil {
		s.file.Close()
	}
	if s.peer != nil {
		s.peer.Close()
	}
	s.file, s.peer = nil, nil
}

// finished tells whether there is nothing more to dial.
func (s *stream) finished() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept != nil {
		return s.kept.Finished() && s.copies.finished()
	}
	return s.kind == proto.Stdin || s.file == nil && s.conn == nil && !s.left()
}

// gone is closed when the other side of c is known to read no more.
func gone(c Conn) <-chan struct{} {
	if d, ok := c.(interface{ Done() <-chan struct{} }); ok {
		return d.Done()
	}
	return nil
}

// dead tells whether c broke, rather than being closed by the other side.
func dead(c Conn) bool {
	if b, ok := c.(interface{ Broken() bool }); ok {
		return b.Broken()
	}
	sc, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	hung := false
	err = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd)}}
		n, _ := unix.Poll(p, 0)
		hung = n > 0 && p[0].Revents&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0
	})
	return hung || err != nil
}
