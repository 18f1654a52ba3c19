package instance_test

import (
	"cmp"
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/guestsession"
	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/fake"
)

// machines is a manager that hosts the fake driver.
type machines struct {
	driver fake.Driver

	mu       sync.Mutex // guards the fields below
	all      map[string]*hosted
	watchers map[chan vmm.Info]chan struct{}
	down     error         // what every call answers
	mute     error         // what every call for one machine answers
	refused  chan struct{} // gets one for each call that was answered so
	hold     chan struct{} // Stop waits until it is closed, if it is there
	broken   int           // so many streams break as soon as they are dialled
	controls []*os.File    // of the control connections that were made
	dir      string        // of snapshots
	saved    map[string]vmm.Saved
	version  string // of the monitor, where it is another than the driver's
	trouble  func(step string) error
	forgot   chan struct{} // gets one when a snapshot is removed, if there is room
}

type hosted struct {
	vmm.Machine
	info  vmm.Info
	asked bool // by the host's service manager to leave
}

func newMachines(dir string) *machines {
	m := &machines{dir: dir, forgot: make(chan struct{}, 1), saved: map[string]vmm.Saved{}, all: map[string]*hosted{}, watchers: map[chan vmm.Info]chan struct{}{}, refused: make(chan struct{}, 1)}
	m.driver.SetSaves(true)
	return m
}

func (m *machines) setDown(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = err
}

func (m *machines) setMute(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mute = err
}

func (m *machines) get(id string) (*hosted, error) {
	if err := m.strike("call"); err != nil && m.isDead(err) {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := cmp.Or(m.down, m.mute); err != nil {
		select {
		case m.refused <- struct{}{}:
		default:
		}
		return nil, err
	}
	h := m.all[id]
	if h == nil {
		return nil, api.Errorf(api.NotFound, "no machine %q", id)
	}
	return h, nil
}

func (m *machines) Start(ctx context.Context, s vmm.Spec) (vmm.Info, error) {
	plan := vmm.Plan{ID: s.ID, MemoryMiB: s.MemoryMiB, VCPUs: s.VCPUs, Disks: s.Disks}
	state := vmm.StateRunning
	err := m.strike("start")
	if err == nil && s.Restore != "" {
		state = vmm.StatePaused
		plan.Restore, err = m.open(s.Restore)
	}
	if err != nil {
		return vmm.Info{}, err
	}
	if plan.Restore != nil {
		defer plan.Restore.State.Close()
	}
	machine, err := m.driver.Start(ctx, plan)
	if err != nil {
		if plan.Restore != nil {
			return vmm.Info{}, api.Errorf(api.Internal, "%w", err)
		}
		return vmm.Info{}, api.Errorf(api.Unavailable, "%w", err)
	}
	h := &hosted{Machine: machine, info: vmm.Info{ID: s.ID, State: vmm.StateStarting}}
	m.mu.Lock()
	m.all[s.ID] = h
	m.mu.Unlock()
	m.change(h, func(*vmm.Info) {})
	select {
	case <-machine.Ready():
	case <-machine.Done():
		m.forget(s.ID)
		return vmm.Info{}, api.Errorf(api.Unavailable, "machine ended at boot: %s: %s", machine.Exit().Reason, machine.Exit().Detail)
	case <-ctx.Done():
		machine.Stop(context.WithoutCancel(ctx))
		m.forget(s.ID)
		return vmm.Info{}, api.Errorf(api.Unavailable, "start given up: %w", ctx.Err())
	}
	m.change(h, func(i *vmm.Info) { i.State = state })
	go func() { // ends with the machine
		<-machine.Done()
		exit := machine.Exit()
		m.change(h, func(i *vmm.Info) {
			if h.asked && exit.Reason == vmm.ReasonPoweroff {
				exit.Reason = vmm.ReasonShutdown
			}
			i.State, i.Exit = vmm.StateEnded, &exit
		})
	}()
	return h.info, nil
}

func (m *machines) forget(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.all, id)
}

func (m *machines) change(h *hosted, f func(*vmm.Info)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(&h.info)
	for w := range m.watchers {
		w <- h.info // roomy
	}
}

func (m *machines) Get(_ context.Context, id string) (vmm.Info, error) {
	h, err := m.get(id)
	if err != nil {
		return vmm.Info{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return h.info, nil
}

func (m *machines) List(context.Context) ([]vmm.Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down != nil {
		return nil, m.down
	}
	var all []vmm.Info
	for _, h := range m.all {
		all = append(all, h.info)
	}
	return all, nil
}

func (m *machines) Connect(ctx context.Context, id string, port uint32) (*os.File, error) {
	h, err := m.get(id)
	if err != nil {
		return nil, err
	}
	if m.breaks(port) {
		return brokenStream()
	}
	conn, err := h.Machine.Connect(ctx, port)
	if err != nil {
		return nil, api.Errorf(api.Unavailable, "%w", err)
	}
	defer conn.Close()
	f, err := conn.(interface{ File() (*os.File, error) }).File()
	if err == nil && port == proto.PortControl {
		err = m.noteControl(f)
	}
	return f, err
}

func (m *machines) Pause(ctx context.Context, id string) error {
	return m.turn(id, vmm.StatePaused, func(h *hosted) error { return h.Machine.Pause(ctx) })
}

func (m *machines) Resume(ctx context.Context, id string) error {
	return m.turn(id, vmm.StateRunning, func(h *hosted) error { return h.Machine.Resume(ctx) })
}

func (m *machines) turn(id string, to vmm.State, f func(*hosted) error) error {
	h, err := m.get(id)
	if err == nil {
		err = f(h)
	}
	if err != nil {
		return err
	}
	m.change(h, func(i *vmm.Info) {
		if i.State != vmm.StateEnded {
			i.State = to
		}
	})
	return nil
}

func (m *machines) Stop(ctx context.Context, id string) error {
	h, err := m.get(id)
	if err != nil {
		return err
	}
	m.mu.Lock()
	hold := m.hold
	m.mu.Unlock()
	if hold != nil {
		<-hold
	}
	h.Machine.Stop(ctx)
	return nil
}

func (m *machines) Remove(_ context.Context, id string) error {
	if _, err := m.get(id); err != nil {
		return err
	}
	m.forget(id)
	return nil
}

func (m *machines) Watch(ctx context.Context) (<-chan vmm.Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down != nil {
		return nil, m.down
	}
	out := make(chan vmm.Info, 1000)
	for _, h := range m.all {
		out <- h.info
	}
	m.watchers[out] = nil
	context.AfterFunc(ctx, func() { m.unwatch(out) })
	return out, nil
}

func (m *machines) unwatch(w chan vmm.Info) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, there := m.watchers[w]; there {
		delete(m.watchers, w)
		close(w)
	}
}

// breakWatches ends every watch, as a restart of vmmd does.
func (m *machines) breakWatches() {
	m.mu.Lock()
	var all []chan vmm.Info
	for w := range m.watchers {
		all = append(all, w)
	}
	m.mu.Unlock()
	for _, w := range all {
		m.unwatch(w)
	}
}

// shutdown asks the guest of a machine to leave, as its worker does when its
// scope is stopped.
func (m *machines) shutdown(t testing.TB, id string) {
	t.Helper()
	h, err := m.get(id)
	if err != nil {
		t.Fatal(err)
	}
	m.change(h, func(*vmm.Info) { h.asked = true })
	session, err := guestsession.Open(t.Context(), func(ctx context.Context, port uint32) (*os.File, error) {
		return m.Connect(ctx, id, port)
	})
	if err == nil {
		defer session.Close()
		err = session.Poweroff(t.Context(), time.Second)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// reboot ends all machines without a trace.
func (m *machines) reboot() {
	m.mu.Lock()
	all := m.all
	m.all = map[string]*hosted{}
	m.mu.Unlock()
	for _, h := range all {
		h.Machine.Stop(context.Background())
	}
}

func (m *machines) close() {
	m.reboot()
	m.driver.Discard()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.controls {
		f.Close()
	}
}

func (m *machines) Support(context.Context) (vmm.Support, error) {
	s, err := m.driver.Probe(context.Background())
	m.mu.Lock()
	defer m.mu.Unlock()
	s.Version = cmp.Or(m.version, s.Version)
	return s, err
}
