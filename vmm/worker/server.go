package worker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/packet"
)

// server answers on the worker's socket. It exists from before the machine's
// start, so that a manager can always learn what goes on.
type server struct {
	config   Config
	plan     Plan
	files    Files
	listener net.Listener
	// ctx ends when the machine has ended and ends all requests.
	ctx    context.Context
	cancel context.CancelFunc
	conns  sync.WaitGroup
	// network is nil where there is none, or it is a tap; confined is closed
	// when it may get connections.
	network  Network
	confined chan struct{}
	// leave shuts the machine down in order.
	leave context.CancelFunc
	// saved says that the machine is in a snapshot as it is now.
	saved atomic.Bool

	mu      sync.Mutex // guards the fields below
	machine vmm.Machine
	report  Report
	changed chan struct{} // closed and replaced at each change of report
}

func newServer(c Config, leave context.CancelFunc) (*server, error) {
	l, err := net.FileListener(c.Files.Listener)
	if err != nil {
		return nil, fmt.Errorf("taking over %s: %w", SocketName, err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	s := &server{config: c, plan: c.Plan, files: c.Files, listener: l, leave: leave, changed: make(chan struct{}), confined: make(chan struct{})}
	if err := s.makeNetwork(); err != nil {
		l.Close()
		return nil, err
	}
	s.report = Report{State: vmm.StateStarting, Accel: c.Plan.Accel, WorkerPid: os.Getpid()}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.conns.Add(1)
	go s.accept()
	return s, nil
}

// close waits until every connection has been told.
func (s *server) close() {
	s.cancel()
	s.listener.Close()
	s.conns.Wait()
	if s.network != nil {
		s.network.Close()
	}
}

// accept ends with the listener.
func (s *server) accept() {
	defer s.conns.Done()
	for {
		c, err := s.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors: others will be closed
			s.config.Log.Warn("accepting a connection", "err", err)
			pause(s.ctx)
			continue
		}
		s.conns.Add(1)
		go func() {
			defer s.conns.Done()
			defer c.Close()
			s.serve(c.(*net.UnixConn))
		}()
	}
}

// pause lets a moment pass.
func pause(ctx context.Context) {
	t := time.NewTimer(50 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// update changes the report and wakes the watchers.
func (s *server) update(change func(*Report)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.report)
	s.report.Seq++
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *server) started(m vmm.Machine) {
	s.mu.Lock()
	s.machine = m
	s.mu.Unlock()
	s.update(func(r *Report) { r.Pid = m.Pid() })
}

// ready tells that the guest can be reached; one that was restored stands still.
func (s *server) ready(restored bool) {
	s.update(func(r *Report) {
		if r.State = vmm.StateRunning; restored {
			r.State = vmm.StatePaused
		}
	})
}

func (s *server) ended(e vmm.Exit) {
	s.update(func(r *Report) { r.State, r.Pid, r.Exit = vmm.StateEnded, 0, &e })
}

func (s *server) now() (vmm.Machine, Report, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.machine, s.report, s.changed
}

func (s *server) serve(c *net.UnixConn) {
	c.SetReadDeadline(time.Now().Add(s.config.RequestTimeout))
	var r request
	files, err := packet.Receive(c, &r)
	if err != nil {
		return
	}
	defer packet.CloseAll(files)
	c.SetReadDeadline(time.Time{}) // from here on a read tells that the peer goes
	switch r.Op {
	case opWatch:
		s.watch(c)
		return
	case opDialer:
		s.serveDialer(c, r.Port)
		return
	case opNetwork:
		s.serveNetwork(c)
		return
	}
	// A peer that goes away gives up its request.
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	go func() {
		c.Read(make([]byte, 1)) // ends with the connection
		cancel()
	}()
	out, err := s.handle(ctx, r, files)
	defer packet.CloseAll(out)
	_, report, _ := s.now()
	err = s.endedMeanwhile(err)
	answer := response{Info: &report}
	if err != nil {
		answer = response{Error: asError(err)}
	}
	if err := packet.Send(c, answer, out...); err != nil {
		s.config.Log.Debug("answering a request", "op", r.Op, "err", err)
	}
}

func asError(err error) *api.Error {
	code := api.CodeOf(err)
	if errors.Is(err, vmm.ErrEnded) || errors.Is(err, vmm.ErrUnsupported) {
		code = api.BadState
	}
	return api.Errorf(code, "%s", printable(err.Error(), maxDetail))
}

func (s *server) handle(ctx context.Context, r request, files []*os.File) ([]*os.File, error) {
	m, report, _ := s.now()
	switch r.Op {
	case opInfo:
		return nil, nil
	case opShutdown:
		s.leave()
		return nil, nil
	}
	if m == nil {
		return nil, api.Errorf(api.BadState, "the machine is %s: it must run", report.State)
	}
	switch r.Op {
	case opConnect:
		f, err := s.connect(ctx, m, r.Port)
		if err != nil {
			return nil, err
		}
		return []*os.File{f}, nil
	case opPause:
		return nil, s.turn(s.pause(ctx, m), vmm.StateRunning, vmm.StatePaused)
	case opResume:
		err := m.Resume(ctx)
		if err == nil {
			s.saved.Store(false)
		}
		return nil, s.turn(err, vmm.StatePaused, vmm.StateRunning)
	case opSnapshot:
		if len(files) != 2 {
			return nil, api.Errorf(api.InvalidArgument, "snapshot came with %d descriptors: state and memory expected", len(files))
		}
		err := m.Snapshot(ctx, vmm.Snapshot{State: files[0], Memory: files[1]})
		if err == nil {
			s.saved.Store(true)
		}
		return nil, err
	case opStop:
		return nil, s.stop(ctx, m)
	}
	return nil, api.Errorf(api.InvalidArgument, "unknown request %q", r.Op)
}

// pause undoes a pause that was given up: the guest may have been stopped all
// the same, and nobody would know.
func (s *server) pause(ctx context.Context, m vmm.Machine) error {
	err := m.Pause(ctx)
	if err == nil || ctx.Err() == nil {
		return err
	}
	if _, r, _ := s.now(); r.State == vmm.StatePaused {
		return err // by an earlier one
	}
	undo, cancel := context.WithTimeout(s.ctx, s.config.RequestTimeout)
	defer cancel()
	return errors.Join(err, m.Resume(undo))
}

// turn notes what a pause or a resume has led to.
func (s *server) turn(err error, from, to vmm.State) error {
	if err != nil {
		return err
	}
	if _, r, _ := s.now(); r.State == from {
		s.update(func(r *Report) {
			if r.State == from {
				r.State = to
			}
		})
	}
	return nil
}

// endedMeanwhile turns what the end of the machine does to a request into
// ErrEnded: the driver and the request's context end at about the same time.
func (s *server) endedMeanwhile(err error) error {
	m, _, _ := s.now()
	if err == nil || m == nil || errors.Is(err, vmm.ErrEnded) {
		return err
	}
	select {
	case <-m.Done():
		return fmt.Errorf("%w: %w", vmm.ErrEnded, err)
	default:
		return err
	}
}

func (s *server) stop(ctx context.Context, m vmm.Machine) error {
	err := s.endedMeanwhile(m.Stop(ctx))
	if errors.Is(err, vmm.ErrEnded) {
		return nil
	}
	return err
}

// watch reports until the worker or the watcher goes; the last report has the
// exit.
func (s *server) watch(c *net.UnixConn) {
	left := make(chan struct{})
	go func() { // ends with the connection, which our caller closes
		defer close(left)
		c.Read(make([]byte, 1))
	}()
	for {
		_, report, changed := s.now()
		if packet.Send(c, response{Info: &report}) != nil || report.State == vmm.StateEnded {
			return
		}
		select {
		case <-changed:
		case <-left:
			return
		case <-s.ctx.Done():
			// The end is reported before ctx ends, so changed is closed, too.
			if _, r, _ := s.now(); r.State != vmm.StateEnded {
				return
			}
		}
	}
}
