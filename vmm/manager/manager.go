// Package manager is the vmm.Manager of a host. It owns the directory of each
// machine and the workers in them, and nothing of a machine's life depends on
// it: when the manager dies, its machines run on, and the next manager takes
// them over by their sockets. It reads the little that a worker says with
// distrust and sees no byte of a guest.
//
// A machine's directory holds spec.json (what it is), starting (a marker, as
// long as Start has not returned), worker.sock, worker.pid (for when nobody
// answers there), console.log, worker.log and run/, the only part that the
// worker may write.
package manager

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/drivers"
	"github.com/xfeldman/aegisvm/vmm/worker"
)

// Config is what a manager works with.
type Config struct {
	// Dir has the directories of the machines; it is made if it is missing.
	Dir string
	// Keep has what outlives machines: snapshots, and what guests booted from.
	// Empty where no snapshot can be taken.
	Keep string
	// Guest has lean/ and distro/, each with a kernel and an initramfs; lean
	// is taken where it is complete.
	Guest string
	// Driver tells what machines can do; workers make their own by Options.
	Driver  vmm.Driver
	Options drivers.Options
	// Launcher starts workers.
	Launcher Launcher
	// Taps opens the taps of machines that have a network; nil where none can.
	Taps Taps
	// Stacks serves those that have it in their workers instead, where the
	// driver can; nil where none do.
	Stacks Stacks
	// UIDBase and UIDs are the range of users that jails take, one for each
	// machine, as user and group; 0 means DefaultUIDBase and DefaultUIDs.
	// Only root can give machines users: for all others both are 0.
	UIDBase, UIDs uint32
	Patience      Patience
	Log           *slog.Logger
}

// Taps opens taps. netd.Network does.
type Taps interface {
	// OpenTap makes the tap of a machine, which lives as long as it is open.
	OpenTap(ctx context.Context, machine string) (*os.File, error)
}

// Stacks are the networks of machines without taps. The user.Network of netd is
// such.
type Stacks interface {
	// Link tells the addresses on the link of a network.
	Link(ctx context.Context, network string) (guest, gateway netip.Addr, err error)
	// Serve opens what a network that is in a machine's worker asks for until
	// the connection ends, and closes it.
	Serve(network string, c *net.UnixConn)
}

// Patience is how long workers are waited for. What is 0 has a default.
type Patience struct {
	// Adopt is how long Open waits for the answers of an earlier manager's
	// workers (10 s). One that takes longer keeps its machine; Silence is how
	// long it may take before it is killed (1 min).
	Adopt, Silence time.Duration
	// Stop is how long a worker may take to stop its machine before it is
	// killed, and to take a request to shut it down (10 s).
	Stop time.Duration
}

func (p Patience) orDefaults() Patience {
	return Patience{
		Adopt:   cmp.Or(p.Adopt, 10*time.Second),
		Silence: cmp.Or(p.Silence, time.Minute),
		Stop:    cmp.Or(p.Stop, 10*time.Second),
	}
}

// The users of machines, unless configured: between the ranges that systemd
// gives to containers and to foreign images, so nobody else's.
const (
	DefaultUIDBase = 2000000000
	DefaultUIDs    = 4096
)

// Manager implements vmm.Manager.
type Manager struct {
	config Config
	hub    hub
	// strict is whether a machine must have its whole jail.
	strict bool

	// ctx ends when the manager is closed, and with it all that it does for
	// machines; the machines themselves run on.
	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	kept kept

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
	c.Patience = c.Patience.orDefaults()
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("finding the machines' directory: %w", err)
	}
	c.Dir = dir
	switch {
	case os.Geteuid() != 0:
		c.UIDBase, c.UIDs = 0, 0
	case c.UIDBase == 0:
		c.UIDBase, c.UIDs = DefaultUIDBase, DefaultUIDs
	}
	// Others pass through to a directory that is theirs, but list nothing.
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, fmt.Errorf("making the machines' directory: %w", err)
	}
	m := &Manager{config: c, machines: make(map[string]*machine)}
	m.strict = m.mayBuildWalls()
	m.ctx, m.cancel = context.WithCancel(context.Background())
	err = m.adoptAll(ctx)
	if err == nil {
		err = m.openKept()
	}
	if err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// mayBuildWalls tells whether a jail that lacks a wall is an error: with the
// rights of root it is, but in a container root may not have those.
func (m *Manager) mayBuildWalls() bool {
	if m.config.UIDBase == 0 {
		return false
	}
	if !worker.MayUnshare() {
		m.config.Log.Warn("this root may not make namespaces or mounts, as in a container without CAP_SYS_ADMIN: " +
			"machines have users of their own and a filter of system calls, but see this system's files; aegis doctor tells more")
		return false
	}
	return true
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
