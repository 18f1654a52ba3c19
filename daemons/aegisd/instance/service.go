// Package instance owns the instances: their records, their life and what
// clients may ask of them. It is api.Aegis itself; transports only carry it.
// It starts no process, opens no network and reads nothing that a guest said
// but through package guestsession.
//
// Each instance has one owner goroutine. Requests and results reach it as
// functions in its mailbox; whatever takes longer than a commit runs in a
// goroutine of its own and comes back with the boot that it belongs to, so
// that a late result of an earlier boot changes nothing.
//
// Everything is committed before it is told, and the truth about machines and
// disks is read back at start: aegisd may be killed at any instruction.
package instance

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/logs"
	"github.com/xfeldman/aegisvm/daemons/aegisd/store"
	"github.com/xfeldman/aegisvm/image"
	"github.com/xfeldman/aegisvm/netd"
	"github.com/xfeldman/aegisvm/router"
	"github.com/xfeldman/aegisvm/vmm"
)

// Records is where instances are kept; package store is the real one.
type Records interface {
	Insert(ctx context.Context, r store.Record) error
	Update(ctx context.Context, id string, st store.Status) error
	Delete(ctx context.Context, id string) error
	Revise(ctx context.Context, id string, spec api.InstanceSpec, at time.Time) error
	All(ctx context.Context) ([]store.Record, error)
}

// Config is what a Service stands on.
type Config struct {
	Records  Records
	Images   image.Store
	Machines vmm.Manager
	Secrets  Secrets
	Logs     *logs.Store
	Log      *slog.Logger
	// Limits are the host's; zero fields are asked of it.
	Limits Limits
	// Timings are for tests; zero fields have their defaults.
	Timings Timings
	// Clock is for tests; nil is the host's.
	Clock Clock
	// Version, Composition and Kernel are told in Status.
	Version, Composition, Kernel string
	// HostBoot names this boot of the host; empty means it is asked.
	HostBoot string
	// Workspaces is nil where none can be served.
	Workspaces Workspaces
	// Router is nil where no port can be exposed.
	Router router.Router
	// Network is nil where machines can have none; NoNetwork says why.
	Network   netd.Network
	NoNetwork string
}

// Timings are how long things may take.
type Timings struct {
	// StopGrace is what processes have between SIGTERM and SIGKILL when an
	// instance is stopped or out of time: 10 s.
	StopGrace time.Duration
	// AttachGrace is how long the output of a program is kept for a client
	// that has not fetched its streams, or that lost its session to a restart
	// of aegisd: 1 min.
	AttachGrace time.Duration
	// CallTimeout bounds a call of the manager or the image store that should
	// be quick: 30 s.
	CallTimeout time.Duration
	// Save is how long the memory of an instance may take to be written to
	// disk: 10 min.
	Save time.Duration
	// Ready is how long a guest may take to be ready: as the manager has it.
	Ready time.Duration
	// Retry is how long a control connection that broke is left before it is
	// made anew, doubled each time up to 1 s: 50 ms.
	Retry time.Duration
}

// Service is the real api.Aegis.
type Service struct {
	Config
	events hub
	gate   imageGate
	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	admission sync.Mutex // held from admit until the view is shown; taken before mu

	mu       sync.Mutex        // guards the maps
	owners   map[string]*owner // by instance
	machines map[string]*owner // by machine
	settling map[string]int    // by instance: calls under way that change its ports

	thaws chan struct{} // holds a token for each machine that is being restored

	nudge chan struct{} // has room for one: ports may not be as they should
}

var _ api.Aegis = (*Service)(nil)

// New reads the records, makes the world agree with them (see reconcile) and
// follows the machines from then on, until Close.
func New(ctx context.Context, c Config) (*Service, error) {
	c.Log = c.Log.With("component", "instance")
	c.Limits = c.Limits.orHost()
	c.Timings.StopGrace = cmp.Or(c.Timings.StopGrace, 10*time.Second)
	c.Timings.AttachGrace = cmp.Or(c.Timings.AttachGrace, time.Minute)
	c.Timings.CallTimeout = cmp.Or(c.Timings.CallTimeout, 30*time.Second)
	c.Timings.Save = cmp.Or(c.Timings.Save, 10*time.Minute)
	c.Timings.Retry = cmp.Or(c.Timings.Retry, 50*time.Millisecond)
	c.HostBoot = cmp.Or(c.HostBoot, hostBoot())
	if c.Clock == nil {
		c.Clock = hostClock{}
	}
	s := &Service{
		Config: c, owners: map[string]*owner{}, machines: map[string]*owner{},
		thaws:    make(chan struct{}, max(2, runtime.NumCPU())),
		settling: map[string]int{}, nudge: make(chan struct{}, 1),
	}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := s.reconcile(ctx); err != nil {
		s.Close()
		return nil, fmt.Errorf("reconciling: %w", err)
	}
	if c.Network != nil {
		if err := s.followDenials(); err != nil {
			s.Close()
			return nil, err
		}
	}
	s.tasks.Go(s.watch)
	if c.Router != nil {
		s.knowPorts(ctx)
		s.tasks.Go(s.keepPorts)
	}
	return s, nil
}

// Close lets go of everything and touches nothing: machines keep running and
// the next New finds them. It returns when no goroutine is left.
func (s *Service) Close() {
	s.mu.Lock()
	s.cancel() // from now on add refuses
	s.mu.Unlock()
	s.tasks.Wait()
	s.events.close()
}

// Get implements api.Aegis.
func (s *Service) Get(_ context.Context, ref string) (api.Instance, error) {
	o, err := s.find(ref)
	if err != nil {
		return api.Instance{}, err
	}
	return o.seen(), nil
}

// List implements api.Aegis.
func (s *Service) List(context.Context) ([]api.Instance, error) {
	s.mu.Lock()
	all := make([]api.Instance, 0, len(s.owners))
	for _, o := range s.owners {
		all = append(all, o.seen())
	}
	s.mu.Unlock()
	rank := func(i api.Instance) int {
		if !i.Enabled {
			return 4 // after all states
		}
		return slices.Index([]api.State{api.StateRunning, api.StateStarting, api.StatePaused, api.StateStopped}, i.State)
	}
	slices.SortFunc(all, func(a, b api.Instance) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return all, nil
}

// Events implements api.Aegis.
func (s *Service) Events(ctx context.Context) (<-chan api.Event, error) {
	return s.events.subscribe(ctx)
}

// Status implements api.Aegis.
func (s *Service) Status(ctx context.Context) (api.Status, error) {
	st := api.Status{
		Status: "running", Version: s.Version, Composition: s.Composition,
		Kernel: s.Kernel, Instances: map[api.Phase]int{},
	}
	all, _ := s.List(ctx)
	for _, in := range all {
		st.Instances[in.Phase]++
	}
	ctx, cancel := context.WithTimeout(ctx, s.Timings.CallTimeout)
	defer cancel()
	s.tellNetwork(ctx, &st)
	st.Front, st.FrontNote = s.frontStatus(ctx)
	sup, err := s.Machines.Support(ctx)
	if err != nil {
		st.Warnings = append(st.Warnings, "machine manager: "+err.Error())
		return st, nil
	}
	st.Backend, st.Accel, st.Missing = sup.Driver, sup.Accel, sup.Missing
	st.Capabilities.Snapshots = sup.Snapshots
	st.Capabilities.PauseResume = sup.Snapshots // what can be written to disk was paused before
	for _, w := range []string{sup.Missing, sup.Note} {
		if w != "" {
			st.Warnings = append(st.Warnings, w)
		}
	}
	return st, nil
}

// find resolves an id, then a handle.
func (s *Service) find(ref string) (*owner, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.owners[ref]; o != nil {
		return o, nil
	}
	for _, o := range s.owners {
		if ref != "" && o.view.Load().Handle == ref {
			return o, nil
		}
	}
	return nil, api.Errorf(api.NotFound, "no instance %q: see `aegis instance list`", ref)
}

// add makes an owner known and starts it; false when the service is closing.
func (s *Service) add(o *owner) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return false
	}
	s.owners[o.id] = o
	s.tasks.Go(o.run)
	return true
}

func (s *Service) forget(o *owner) {
	s.mu.Lock()
	delete(s.owners, o.id)
	s.mu.Unlock()
}

// route makes the ends of a machine known to its owner; with nil it forgets.
func (s *Service) route(machine string, o *owner) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o == nil {
		delete(s.machines, machine)
	} else {
		s.machines[machine] = o
	}
}

func (s *Service) ownerOf(machine string) *owner {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.machines[machine]
}

// bounded gives a context for one quick call that must happen even when the
// client has gone.
func (s *Service) bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.ctx, s.Timings.CallTimeout)
}
