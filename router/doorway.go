package router

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/xfeldman/aegisvm/router/front"
)

// FrontConfig says where the HTTP front is. The zero value is none.
type FrontConfig struct {
	// Socket is one that somebody has opened, which becomes the service's; or
	// Address is to be opened, port 0 for any.
	Socket  net.Listener
	Address netip.AddrPort
	// Missing says why there is neither.
	Missing string
}

// Front is where the HTTP front is.
type Front struct {
	// Address is where it is open, empty where it is not; Trouble says why.
	Address string `json:"address,omitempty"`
	Trouble string `json:"trouble,omitempty"`
}

// doorway is the service's front.
type doorway struct {
	mu  sync.Mutex // guards now
	now Front
}

// Front implements Router.
func (s *Service) Front(context.Context) (Front, error) {
	s.doorway.mu.Lock()
	defer s.doorway.mu.Unlock()
	return s.doorway.now, nil
}

func (d *doorway) set(f Front) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now = f
}

// openFront opens the front, or has it tried again: a port that another program
// has is no reason to be without all others.
func (s *Service) openFront() {
	l, err := s.frontSocket()
	switch {
	case l != nil:
		s.doorway.set(Front{Address: l.Addr().String()})
	case err == nil:
		s.doorway.set(Front{Trouble: s.FrontConfig.Missing})
		return
	default:
		s.Log.Warn("the HTTP front cannot be opened and is tried again", "error", err)
		s.doorway.set(Front{Trouble: err.Error()})
	}
	s.tasks.Go(func() { s.keepFront(l) })
}

// keepFront serves the front, once it can be opened.
func (s *Service) keepFront(l net.Listener) {
	for pause := s.Limits.Retry; l == nil; pause = min(2*pause, longestRetry) {
		if !wait(s.ctx, pause) {
			return
		}
		l, _ = s.frontSocket() // what keeps it is told already
	}
	s.doorway.set(Front{Address: l.Addr().String()})
	s.Log.Info("the HTTP front is open", "at", l.Addr())
	if err := front.New(s, s.Log.With("component", "front")).Serve(s.ctx, l); err != nil {
		s.Log.Error("the HTTP front has ended", "error", err)
		s.doorway.set(Front{Trouble: err.Error()})
	}
}

// frontSocket is the front's socket; nil without an error where none is wanted.
func (s *Service) frontSocket() (net.Listener, error) {
	at := s.FrontConfig.Address
	switch {
	case s.FrontConfig.Socket != nil:
		return s.FrontConfig.Socket, nil
	case !at.IsValid():
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, time.Second)
	defer cancel()
	var l net.ListenConfig
	socket, err := l.Listen(ctx, "tcp", at.String())
	if err != nil {
		return nil, explainAt(at.String(), at.Addr().String(), err)
	}
	return socket, nil
}
