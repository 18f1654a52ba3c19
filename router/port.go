package router

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/xfeldman/aegisvm/guest/proto/forward"
)

// longestRetry is how long a port that cannot be opened is left at most.
const longestRetry = 30 * time.Second

// port is one exposed port. Its fields are the service's to guard.
type port struct {
	entry
	service *Service
	backend *backend

	socket  socket // nil while it is not open
	cancel  context.CancelFunc
	trouble error

	on  context.Context // ended while the port is switched off
	off context.CancelFunc
}

// turnOn lets the front lead to the port, whether or not its socket is open.
func (p *port) turnOn() {
	if p.on == nil || p.on.Err() != nil {
		p.on, p.off = context.WithCancel(p.service.ctx)
	}
}

// open opens the port, or has it tried again: nothing tells when another
// program lets go of one.
func (p *port) open() {
	p.turnOn()
	sock, err := bind(p.service.ctx, p.entry)
	if err == nil {
		p.serve(sock)
		p.keep()
		return
	}
	p.trouble = p.service.taken(p.entry, err)
	p.service.Log.Error("a port cannot be opened and is tried again", "instance", p.Instance, "port", p.String(), "error", p.trouble)
	ctx, cancel := context.WithCancel(p.service.ctx)
	p.cancel = cancel
	p.service.tasks.Go(func() { p.retry(ctx) })
}

func (p *port) retry(ctx context.Context) {
	for pause := p.service.Limits.Retry; wait(ctx, pause); pause = min(2*pause, longestRetry) {
		if p.tryAgain(ctx) {
			return
		}
	}
}

func (p *port) tryAgain(ctx context.Context) (over bool) {
	s := p.service
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return true
	}
	sock, err := bind(ctx, p.entry)
	if err != nil {
		p.trouble = s.taken(p.entry, err)
		return false
	}
	p.cancel()
	p.serve(sock)
	p.keep()
	s.Log.Info("a port is open again", "instance", p.Instance, "port", p.String())
	s.hub.tell()
	return true
}

// wait lets some time pass; false means that ctx has ended.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// serve carries what comes to the socket until the port is shut.
func (p *port) serve(sock socket) {
	p.turnOn()
	ctx, cancel := context.WithCancel(p.service.ctx)
	p.socket, p.trouble, p.cancel = sock, nil, cancel
	way := way{limits: p.service.Limits, log: p.service.Log.With("instance", p.Instance, "port", p.String()), backend: p.backend, Port: p.Port}
	p.service.tasks.Go(func() {
		switch sock := sock.(type) {
		case *net.TCPListener:
			way.listen(ctx, sock)
		case *net.UDPConn:
			way.receive(ctx, sock)
		}
	})
}

// shut closes the port here with its connections.
func (p *port) shut() {
	if p.off != nil {
		p.off()
	}
	if p.cancel != nil {
		p.cancel()
	}
	if p.socket != nil {
		p.socket.Close()
		p.socket = nil
	}
	p.trouble = nil
}

// stop closes the port for everybody.
func (p *port) stop() {
	p.shut()
	if err := p.service.Keeper.Drop(p.key().name()); err != nil {
		p.service.Log.Warn("a closed port is kept", "port", p.key().name(), "error", err)
	}
}

func (p Port) network() forward.Network {
	if p.key().udp {
		return forward.UDP
	}
	return forward.TCP
}

// lasting tells an error that ends a socket from one that passes, such as a
// lack of descriptors.
func lasting(err error) bool { return errors.Is(err, net.ErrClosed) }
