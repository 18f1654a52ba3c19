// Package manager is the vmm.Manager of a host. It owns the directory of each
// machine and the workers in them, and nothing of a machine's life depends on
// it: when the manager dies, its machines run on, and the next manager takes
// them over by their sockets. It reads the little that a worker says with
// distrust and sees no byte of a guest.
//
// A machine's directory holds spec.json (what it is), starting (a marker, as
// long as Start has not returned), worker.sock, console.log, worker.log and
// run/, the only part that the worker may write.
package manager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/drivers"
	"github.com/xfeldman/aegisvm/vmm/worker"
)

// Config is what a manager works with.
type Config struct {
	// Dir has the directories of the machines; it is made if it is missing.
	Dir string
	// Guest has lean/ and distro/, each with a kernel and an initramfs; lean
	// is taken where it is complete.
	Guest string
	// Driver tells what machines can do; workers make their own by Options.
	Driver  vmm.Driver
	Options drivers.Options
	// Launcher starts workers.
	Launcher Launcher
	// UIDBase and UIDs are the range of users that jails take, one for each
	// machine, as user and group. 0 leaves machines the manager's user.
	UIDBase, UIDs uint32
	Log           *slog.Logger
}

// Manager implements vmm.Manager.
type Manager struct {
	config Config
	hub    hub

	// ctx ends when the manager is closed, and with it all that it does for
	// machines; the machines themselves run on.
	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu       sync.Mutex // guards machines and, of each, what machine says
	machines map[string]*machine
	closed   bool
}

var _ vmm.Manager = (*Manager)(nil)

// Open makes a manager and takes over the machines of an earlier one: those
// that run, those that have ended since, and the remains of starts that it
// did not finish, which are cleared away.
func Open(ctx context.Context, c Config) (*Manager, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Log = c.Log.With("component", "vmm")
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("finding the machines' directory: %w", err)
	}
	c.Dir = dir
	// Others pass through to a directory that is theirs, but list nothing.
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, fmt.Errorf("making the machines' directory: %w", err)
	}
	m := &Manager{config: c, machines: make(map[string]*machine)}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	if err := m.adoptAll(ctx); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// Close lets go of all machines, which run on, and ends all watches. A Start
// that is under way fails and cleans up first.
func (m *Manager) Close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.cancel()
	m.hub.close()
	m.tasks.Wait()
}

// begin counts a task that Close waits for.
func (m *Manager) begin() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return api.Errorf(api.Unavailable, "the machine manager is closing")
	}
	m.tasks.Add(1)
	return nil
}

// find looks a machine up.
func (m *Manager) find(id string) (*machine, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	x := m.machines[id]
	if x == nil {
		return nil, api.Errorf(api.NotFound, "machine %q is not there", id)
	}
	return x, nil
}

// Get tells of one machine.
func (m *Manager) Get(_ context.Context, id string) (vmm.Info, error) {
	x, err := m.find(id)
	if err != nil {
		return vmm.Info{}, err
	}
	return x.current(), nil
}

// List tells of all machines, by id.
func (m *Manager) List(context.Context) ([]vmm.Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.infos(), nil
}

// infos is the list; the caller holds mu.
func (m *Manager) infos() []vmm.Info {
	all := make([]vmm.Info, 0, len(m.machines))
	for _, x := range m.machines {
		all = append(all, x.info)
	}
	slices.SortFunc(all, func(a, b vmm.Info) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// Connect dials a port of a machine's guest.
func (m *Manager) Connect(ctx context.Context, id string, port uint32) (*os.File, error) {
	x, err := m.running(id)
	if err != nil {
		return nil, err
	}
	f, err := x.client.Connect(ctx, port)
	if err != nil {
		return nil, x.failed(ctx, fmt.Sprintf("connecting to port %d of", port), err)
	}
	return f, nil
}

// Pause stops a machine's processors.
func (m *Manager) Pause(ctx context.Context, id string) error {
	return m.act(ctx, id, "pausing", worker.Client.Pause)
}

// Resume lets them go on.
func (m *Manager) Resume(ctx context.Context, id string) error {
	return m.act(ctx, id, "resuming", worker.Client.Resume)
}

// Snapshot writes a paused machine to s.
func (m *Manager) Snapshot(ctx context.Context, id string, s vmm.Snapshot) error {
	if s.State == nil || s.Memory == nil {
		return api.Errorf(api.InvalidArgument, "snapshot of machine %q needs a file for the state and one for the memory", id)
	}
	return m.act(ctx, id, "snapshotting", func(c worker.Client, ctx context.Context) error { return c.Snapshot(ctx, s) })
}

func (m *Manager) act(ctx context.Context, id, doing string, do func(worker.Client, context.Context) error) error {
	x, err := m.running(id)
	if err != nil {
		return err
	}
	if err := do(x.client, ctx); err != nil {
		return x.failed(ctx, doing, err)
	}
	x.noted(ctx)
	return nil
}

// running is a machine whose guest is ready.
func (m *Manager) running(id string) (*machine, error) {
	x, err := m.find(id)
	if err != nil {
		return nil, err
	}
	switch i := x.current(); i.State {
	case vmm.StateStarting:
		return nil, api.Errorf(api.BadState, "machine %q is starting: wait until it runs", id)
	case vmm.StateEnded:
		return nil, api.Errorf(api.BadState, "machine %q: %w (%s)", id, vmm.ErrEnded, exitWords(i.Exit))
	}
	return x, nil
}

// Stop pulls the plug of a machine and waits until its worker is gone.
func (m *Manager) Stop(ctx context.Context, id string) error {
	x, err := m.find(id)
	if err != nil {
		return err
	}
	return x.stop(ctx)
}

// Shutdown asks the guest of a machine to leave in order. It returns at once;
// Watch tells when it has left.
func (m *Manager) Shutdown(ctx context.Context, id string) error {
	x, err := m.running(id)
	if err != nil {
		return err
	}
	if err := x.client.Shutdown(ctx); err != nil {
		return x.failed(ctx, "shutting down", err)
	}
	return nil
}

// Remove forgets an ended machine and deletes its directory.
func (m *Manager) Remove(ctx context.Context, id string) error {
	x, err := m.find(id)
	if err != nil {
		return err
	}
	if s := x.current().State; s != vmm.StateEnded {
		return api.Errorf(api.BadState, "machine %q is %s: stop it before it is removed", id, s)
	}
	if err := x.waitGone(ctx); err != nil {
		return err
	}
	return m.forget(x)
}

// forget deletes what is left of a machine whose worker is gone.
func (m *Manager) forget(x *machine) error {
	if err := os.RemoveAll(x.dir); err != nil {
		return api.Errorf(api.Internal, "removing machine %q: %w", x.id, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.machines[x.id] == x {
		delete(m.machines, x.id)
	}
	return nil
}

// Watch follows all machines.
func (m *Manager) Watch(ctx context.Context) (<-chan vmm.Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, api.Errorf(api.Unavailable, "the machine manager is closing")
	}
	return m.hub.watch(ctx, m.infos()), nil
}

// Support tells what the driver can do here.
func (m *Manager) Support(ctx context.Context) (vmm.Support, error) {
	s, err := m.config.Driver.Probe(ctx)
	if err != nil {
		return vmm.Support{}, api.Errorf(api.Internal, "probing driver %s: %w", m.config.Driver.Name(), err)
	}
	return s, nil
}

func exitWords(e *vmm.Exit) string {
	if e == nil {
		return "no record"
	}
	if e.Detail == "" {
		return string(e.Reason)
	}
	return string(e.Reason) + ": " + e.Detail
}

// asAPI gives an error of ours a code; those that have one keep it.
func asAPI(ctx context.Context, err error) *api.Error {
	if _, ok := errors.AsType[*api.Error](err); !ok && ctx.Err() != nil {
		return api.Errorf(api.Unavailable, "%w", err)
	}
	return api.AsError(err)
}
