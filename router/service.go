package router

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/xfeldman/aegisvm/api"
)

// Config is what a Service stands on.
type Config struct {
	// Dir has the table of ports.
	Dir string
	// Waker leads to guests.
	Waker Waker
	// Keeper keeps sockets, nil where nobody does; Kept are those that it has
	// kept for us, which become the service's.
	Keeper Keeper
	Kept   map[string]*os.File
	Log    *slog.Logger
	// FrontConfig says where the HTTP front is.
	FrontConfig FrontConfig
	// Limits has defaults for its zero fields.
	Limits Limits
}

// Limits bound what strangers can make the service do.
type Limits struct {
	// Connections is how many a port may have at once: 4096. Flows is the same
	// for UDP: 1024.
	Connections, Flows int
	// Ready is how long after its start a program may take to listen: 1 min.
	Ready time.Duration
	// Wake is how long a wake may take: 2 min.
	Wake time.Duration
	// Linger is how long a lease is kept after the last connection: 1 s.
	Linger time.Duration
	// FlowIdle ends a flow of UDP without datagrams: 1 min.
	FlowIdle time.Duration
	// Retry is the first pause before what failed is tried again: 1 s.
	Retry time.Duration
}

func (l Limits) orDefaults() Limits {
	l.Connections = cmp.Or(l.Connections, 4096)
	l.Flows = cmp.Or(l.Flows, 1024)
	l.Ready = cmp.Or(l.Ready, time.Minute)
	l.Wake = cmp.Or(l.Wake, 2*time.Minute)
	l.Linger = cmp.Or(l.Linger, time.Second)
	l.FlowIdle = cmp.Or(l.FlowIdle, time.Minute)
	l.Retry = cmp.Or(l.Retry, time.Second)
	return l
}

// Service is the real Router.
type Service struct {
	Config
	ctx     context.Context
	cancel  context.CancelFunc
	tasks   sync.WaitGroup
	hub     hub
	doorway doorway

	mu       sync.Mutex // guards the fields below and those of the ports
	ports    map[key]*port
	backends map[string]*backend
}

var _ Router = (*Service)(nil)

// Open opens the ports of the table: those that were kept as they are, the
// others anew. One that cannot be opened is tried again.
func Open(c Config) (*Service, error) {
	c.Log = c.Log.With("component", "router")
	c.Limits = c.Limits.orDefaults()
	if c.Keeper == nil {
		c.Keeper = NoKeeper{}
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("folder of the ports: %w", err)
	}
	s := &Service{Config: c, ports: map[key]*port{}, backends: map[string]*backend{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	all, damage := readTable(s.file())
	if damage != nil {
		c.Log.Error("the table of ports was damaged and is put aside", "error", damage)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range all {
		p := s.add(e)
		if e.On {
			s.reopen(p)
		}
	}
	for name, f := range s.Kept {
		f.Close()
		c.Log.Warn("closing a socket that no port has", "name", name, "error", c.Keeper.Drop(name))
	}
	s.Kept = nil
	s.openFront()
	return s, nil
}

// NoKeeper keeps nothing.
type NoKeeper struct{}

// Keep implements Keeper.
func (NoKeeper) Keep(string, *os.File) error { return nil }

// Drop implements Keeper.
func (NoKeeper) Drop(string) error { return nil }

func (s *Service) file() string { return filepath.Join(s.Dir, "ports.json") }

// Close ends all connections and closes the ports here; a keeper still has
// them.
func (s *Service) Close() {
	s.mu.Lock()
	s.cancel()
	for _, p := range s.ports {
		p.shut()
	}
	for _, b := range s.backends {
		b.close()
	}
	s.mu.Unlock()
	s.tasks.Wait()
	s.hub.close()
}

// add makes a port known.
func (s *Service) add(e entry) *port {
	b := s.backends[e.Instance]
	if b == nil {
		b = newBackend(s, e.Instance)
		s.backends[e.Instance] = b
	}
	if e.Handle != "" {
		b.handle = e.Handle
	}
	p := &port{service: s, backend: b, entry: e}
	s.ports[e.key()] = p
	return p
}

// reopen opens a port of the table, or has it tried again later.
func (s *Service) reopen(p *port) {
	name := p.key().name()
	if f := s.Kept[name]; f != nil {
		delete(s.Kept, name)
		sock, err := takeOver(p.entry, f)
		if err == nil {
			p.serve(sock)
			return
		}
		s.Log.Warn("a kept socket is not that of its port", "port", name, "error", err, "dropped", s.Keeper.Drop(name))
	}
	p.open()
}

// Expose implements Router.
func (s *Service) Expose(ctx context.Context, want Port) (Endpoint, error) {
	if err := want.check(); err != nil {
		return Endpoint{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return Endpoint{}, errClosing()
	}
	if p := s.ports[want.key()]; p != nil {
		return p.again(want)
	}
	s.rename(want)
	e := entry{Port: want, ActualPort: want.PublicPort, On: true}
	sock, err := bind(ctx, e)
	if err != nil {
		return Endpoint{}, s.taken(e, err)
	}
	e.ActualPort = portOf(sock)
	p := s.add(e)
	if err := s.save(); err != nil {
		s.remove(p)
		sock.Close()
		return Endpoint{}, err
	}
	p.serve(sock)
	p.keep()
	s.hub.tell()
	s.Log.Info("exposed", "instance", want.Instance, "port", want.String(), "at", e.address())
	return p.endpoint(), nil
}

func errClosing() error { return api.Errorf(api.Unavailable, "the router is ending: try again") }

// taken names the instance that has a port, if one of ours has it.
func (s *Service) taken(e entry, err error) error {
	if api.CodeOf(err) != api.Exists {
		return err
	}
	for _, p := range s.ports {
		if p.ActualPort == e.ActualPort && p.key().udp == e.key().udp {
			return api.Errorf(api.Exists, "port %d of this host is taken by instance %s: choose another or unexpose that", e.ActualPort, p.Instance)
		}
	}
	return err
}

// save writes the table.
func (s *Service) save() error {
	all := []entry{}
	for _, p := range s.ports {
		all = append(all, p.entry)
	}
	if err := writeTable(s.file(), all); err != nil {
		return api.Errorf(api.Unavailable, "ports of this host: %w", err)
	}
	return nil
}

// remove forgets a port.
func (s *Service) remove(p *port) {
	delete(s.ports, p.key())
	for _, other := range s.ports {
		if other.Instance == p.Instance {
			return
		}
	}
	delete(s.backends, p.Instance)
}

// Unexpose implements Router.
func (s *Service) Unexpose(_ context.Context, instance string, guestPort int, protocol api.Protocol) error {
	gone, err := s.drop(func(p *port) bool {
		return p.Instance == instance && p.GuestPort == guestPort &&
			(protocol == "" || (protocol == api.ProtocolUDP) == p.key().udp)
	})
	if err == nil && gone == 0 {
		return api.Errorf(api.NotFound, "instance %s does not expose port %d", instance, guestPort)
	}
	return err
}

// Forget implements Router.
func (s *Service) Forget(_ context.Context, instance string) error {
	_, err := s.drop(func(p *port) bool { return p.Instance == instance })
	return err
}

// drop forgets ports and closes them, in this order: what is in the table is
// opened again.
func (s *Service) drop(which func(*port) bool) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var gone []*port
	for _, p := range s.ports {
		if which(p) {
			gone = append(gone, p)
		}
	}
	if len(gone) == 0 {
		return 0, nil
	}
	for _, p := range gone {
		delete(s.ports, p.key())
	}
	if err := s.save(); err != nil {
		for _, p := range gone {
			s.ports[p.key()] = p
		}
		return 0, err
	}
	for _, p := range gone {
		s.remove(p)
		p.stop()
		s.Log.Info("closed", "instance", p.Instance, "port", p.String())
	}
	s.hub.tell()
	return len(gone), nil
}

// Switch implements Router.
func (s *Service) Switch(_ context.Context, instance string, on bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return errClosing()
	}
	var changed []*port
	for _, p := range s.ports {
		if p.Instance == instance && p.On != on {
			p.On = on
			changed = append(changed, p)
		}
	}
	if len(changed) == 0 {
		return nil
	}
	if err := s.save(); err != nil {
		for _, p := range changed {
			p.On = !on
		}
		return err
	}
	for _, p := range changed {
		if on {
			p.open()
		} else {
			p.stop()
		}
	}
	s.hub.tell()
	return nil
}

// List implements Router.
func (s *Service) List(context.Context) ([]Endpoint, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Endpoint, 0, len(s.ports))
	for p := range maps.Values(s.ports) {
		all = append(all, p.endpoint())
	}
	slices.SortFunc(all, func(a, b Endpoint) int { return compare(a.Port, b.Port) })
	return all, nil
}

// Watch implements Router.
func (s *Service) Watch(ctx context.Context) (<-chan struct{}, error) {
	if s.ctx.Err() != nil {
		return nil, errClosing()
	}
	return s.hub.watch(ctx), nil
}

// rename takes over the name of a port's instance for all of its ports; the
// caller writes the table.
func (s *Service) rename(p Port) {
	for _, other := range s.ports {
		if other.Instance == p.Instance {
			other.Handle = p.Handle
			other.backend.handle = p.Handle
		}
	}
}

// again answers for a port that is exposed already.
func (p *port) again(want Port) (Endpoint, error) {
	same := p.Bind == want.Bind && p.Protocol == want.Protocol && (want.PublicPort == 0 || want.PublicPort == p.ActualPort)
	if !same {
		return Endpoint{}, api.Errorf(api.Exists, "instance %s exposes port %d already, as %s at %v: unexpose it first", p.Instance, p.GuestPort, p.Protocol, p.address())
	}
	if p.Handle == want.Handle {
		return p.endpoint(), nil
	}
	before := p.Port
	p.service.rename(want)
	if err := p.service.save(); err != nil {
		p.service.rename(before)
		return Endpoint{}, err
	}
	p.service.hub.tell()
	return p.endpoint(), nil
}

func (p *port) endpoint() Endpoint {
	e := Endpoint{Port: p.Port, ActualPort: p.ActualPort, On: p.On, Open: p.socket != nil}
	if p.trouble != nil {
		e.Trouble = p.trouble.Error()
	}
	return e
}

// keep has the keeper keep the port's socket. Without it the port is closed
// for a moment when this process dies, and no more.
func (p *port) keep() {
	f, err := p.socket.File()
	if err == nil {
		err = errors.Join(p.service.Keeper.Keep(p.key().name(), f), f.Close())
	}
	if err != nil {
		p.service.Log.Warn("a port is not kept over a restart", "port", p.key().name(), "error", err)
	}
}
