package fake

import (
	"io"
	"net"
	"sync"

	"github.com/xfeldman/aegisvm/guest/proto"
)

// keepSize is how much of an output is kept while nobody has dialled it.
const keepSize = 256 << 10

// output is what a detached process or a terminal writes. It goes to whoever
// has dialled; while nobody has, the last of it is kept.
type output struct {
	mu     sync.Mutex // guards the fields below
	kept   []byte
	client io.Writer
	gone   chan struct{} // closed when client takes no more
	ended  bool
}

// Write never fails and waits for nobody but a client.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.client != nil {
		n, err := o.client.Write(b)
		if err == nil {
			return len(b), nil
		}
		o.keep(b[n:])
		o.leave()
		return len(b), nil
	}
	o.keep(b)
	return len(b), nil
}

func (o *output) keep(b []byte) {
	o.kept = append(o.kept, b...)
	o.kept = o.kept[max(0, len(o.kept)-keepSize):]
}

func (o *output) leave() {
	if o.client != nil {
		o.client = nil
		close(o.gone)
	}
}

// Close is the end of the process.
func (o *output) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	o.leave()
	return nil
}

// dial gives what was kept to a client and makes what follows go there, until
// gone is closed. It is false when there is a client already, or nothing more.
func (o *output) dial(c io.Writer) (gone chan struct{}, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.client != nil {
		return nil, false
	}
	n, err := c.Write(o.kept)
	o.kept = o.kept[n:]
	if err != nil || o.ended {
		return nil, false
	}
	o.client, o.gone = c, make(chan struct{})
	return o.gone, true
}

func (o *output) hangUp(gone chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.gone == gone {
		o.leave()
	}
}

func (o *output) dialled() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.client != nil
}

// converse serves a connection to an output, until either has ended.
func (p *process) converse(c net.Conn, o *output) {
	gone, ok := o.dial(c)
	if !ok {
		return
	}
	go func() { // ends with c
		buf := make([]byte, 4<<10)
		for {
			n, err := c.Read(buf)
			if p.tty != nil {
				p.tty.typed(buf[:n])
			}
			if err != nil {
				break
			}
		}
		o.hangUp(gone)
	}()
	<-gone
	if p.tty != nil && p.request.GetLifetime() != proto.Lifetime_LIFETIME_DETACHED {
		p.signal(1)
	}
}
