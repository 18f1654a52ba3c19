// Package dialer lets a process connect to one port of one machine's guest as
// often as it likes, with nobody between it and the machine's worker. It is
// what travels over the socket that vmm.Manager.Dialer gives: one packet asks
// for a connection, one answers with its descriptor or with the reason why
// there is none. What is said over the connections is not its business.
package dialer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm/packet"
)

// request asks for a connection; answer has the ID of its request.
type (
	request struct {
		ID uint64 `json:"id"`
	}
	answer struct {
		ID    uint64     `json:"id"`
		Error *api.Error `json:"error,omitempty"`
	}
)

// ErrClosed is wrapped by a Dial over a socket whose other end is gone.
var ErrClosed = errors.New("the machine's worker is gone")

// Dialer asks for connections. Its methods may be called from several
// goroutines.
type Dialer struct {
	conn *net.UnixConn
	done chan struct{} // closed when conn has ended

	sending sync.Mutex

	mu      sync.Mutex // guards the fields below
	last    uint64
	waiting map[uint64]chan result // nil when conn has ended
}

type result struct {
	file *os.File
	err  error
}

// New takes possession of the socket that vmm.Manager.Dialer gave.
func New(f *os.File) (*Dialer, error) {
	c, err := packet.Conn(f)
	if err != nil {
		return nil, err
	}
	d := &Dialer{conn: c, done: make(chan struct{}), waiting: map[uint64]chan result{}}
	go d.receive() // ends with conn
	return d, nil
}

// Close ends the dialer; connections that it has made stay.
func (d *Dialer) Close() { d.conn.Close() }

// Done is closed when the worker is gone, or Close was called.
func (d *Dialer) Done() <-chan struct{} { return d.done }

// Alive tells whether the worker is there at this moment: when it answers, what
// was done before was done in the machine's life.
func (d *Dialer) Alive() bool {
	raw, err := d.conn.SyscallConn()
	if err != nil {
		return false
	}
	alive := false
	err = raw.Control(func(fd uintptr) {
		look := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		_, err := unix.Poll(look, 0)
		alive = (err == nil || err == unix.EINTR) && look[0].Revents&(unix.POLLHUP|unix.POLLERR) == 0
	})
	return err == nil && alive
}

// Dial connects to the port.
func (d *Dialer) Dial(ctx context.Context) (*net.UnixConn, error) {
	id, reply, err := d.expect()
	if err != nil {
		return nil, err
	}
	d.sending.Lock()
	err = packet.Send(d.conn, request{id})
	d.sending.Unlock()
	if err != nil {
		d.forget(id)
		return nil, fmt.Errorf("%w: %w", ErrClosed, err)
	}
	select {
	case r := <-reply:
		return r.connection()
	case <-ctx.Done():
		if !d.forget(id) { // it is on its way to us
			if r := <-reply; r.file != nil {
				r.file.Close()
			}
		}
		return nil, context.Cause(ctx)
	}
}

func (d *Dialer) expect() (uint64, chan result, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waiting == nil {
		return 0, nil, ErrClosed
	}
	d.last++
	reply := make(chan result, 1)
	d.waiting[d.last] = reply
	return d.last, reply, nil
}

// forget tells whether an answer was still awaited; now it is not.
func (d *Dialer) forget(id uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, awaited := d.waiting[id]
	delete(d.waiting, id)
	return awaited
}

func (d *Dialer) receive() {
	defer d.end()
	for {
		var a answer
		files, err := packet.Receive(d.conn, &a)
		if err != nil {
			return
		}
		d.mu.Lock()
		reply := d.waiting[a.ID]
		delete(d.waiting, a.ID)
		d.mu.Unlock()
		switch {
		case reply == nil:
			packet.CloseAll(files)
		case a.Error != nil:
			packet.CloseAll(files)
			reply <- result{err: a.Error}
		case len(files) != 1:
			packet.CloseAll(files)
			reply <- result{err: fmt.Errorf("the worker sent %d descriptors, one expected", len(files))}
		default:
			reply <- result{file: files[0]}
		}
	}
}

// end tells those who wait that nothing comes any more.
func (d *Dialer) end() {
	d.conn.Close()
	d.mu.Lock()
	waiting := d.waiting
	d.waiting = nil
	d.mu.Unlock()
	for _, reply := range waiting {
		reply <- result{err: ErrClosed}
	}
	close(d.done)
}

func (r result) connection() (*net.UnixConn, error) {
	if r.err != nil {
		return nil, r.err
	}
	defer r.file.Close()
	c, err := net.FileConn(r.file)
	if err != nil {
		return nil, fmt.Errorf("taking a connection: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("taking a connection: it is of %s", c.LocalAddr().Network())
	}
	return u, nil
}
