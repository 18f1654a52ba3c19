// Package worker is the process that holds one machine: the parent of its
// monitor. It owns the machine from its start to the record of its end, the
// jail that both run in, and the socket through which the manager (or its
// successor after a crash) reaches the machine. It knows nothing of other
// machines, opens no path that it was not given, and parses nothing that a
// guest sent but what the driver's transport needs.
//
// A worker is born with its descriptors (File numbers below) and reads its
// Plan from the first, a pipe that the manager fills only when the worker is
// registered with systemd: a manager that dies earlier leaves an empty pipe,
// and the worker goes. It answers one request per connection on a
// SOCK_SEQPACKET socket that the manager bound, and lives on when the manager
// dies. How the machine ended is in exit.json before the process goes.
package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/xfeldman/aegisvm/vmm"
)

// Names in a machine's directory.
const (
	SocketName = "worker.sock" // in the machine's directory, made by the manager
	ExitName   = "exit.json"   // in the run directory, made by the worker
)

// Plan is what a worker is told beside its descriptors. Paths are those of
// the host; the jail gives them others.
type Plan struct {
	ID        string `json:"id"`
	Driver    string `json:"driver"`
	Binary    string `json:"binary,omitempty"` // of the monitor; empty for the driver's default
	Accel     string `json:"accel,omitempty"`
	ClockKHz  int    `json:"clock_khz,omitempty"`
	Kernel    string `json:"kernel"`
	Initramfs string `json:"initramfs"`
	MemoryMiB int    `json:"memory_mib"`
	VCPUs     int    `json:"vcpus"`
	// Disks are in the order of their descriptors.
	Disks []Disk `json:"disks"`
	// Network says that a tap follows the disks.
	Network bool `json:"network,omitempty"`
	// Link is the network of a machine without a tap, whose stack is in its
	// worker.
	Link *Link `json:"link,omitempty"`
	// Restore says that two more descriptors follow: state and memory.
	Restore bool `json:"restore,omitempty"`
	// ReadyTimeout is how long the guest may take to ring.
	ReadyTimeout time.Duration `json:"ready_timeout"`
	// RunDir is the directory for the driver's sockets and the exit record.
	RunDir string `json:"run_dir"`
	// MemoryDir is the jail's place for the guest's memory, if it has one.
	MemoryDir string `json:"memory_dir,omitempty"`
	// Jail is nil where the caller is the jail: tests, in-process workers.
	Jail *Jail `json:"jail,omitempty"`
	// Cgroup has descriptor numbers that the first stage leaves to the
	// second.
	Cgroup *Cgroup `json:"cgroup,omitempty"`
}

// Link has the addresses of a machine whose network is in its worker.
type Link struct {
	Guest   netip.Addr `json:"guest"`
	Gateway netip.Addr `json:"gateway"`
}

// Network is the network of a machine in this process.
type Network interface {
	// NIC is what the machine's device is to be connected to, a stream of
	// frames as vmm.Plan has it; the caller closes it.
	NIC() *os.File
	// Serve has what the guest wants opened by who is at the other end of a
	// connection, until that or ctx ends.
	Serve(ctx context.Context, c *net.UnixConn)
	Close()
}

// Disk is a vmm.Disk without its descriptor.
type Disk struct {
	Role     vmm.Role `json:"role"`
	ReadOnly bool     `json:"read_only"`
}

// Jail is how a worker locks itself and its monitor in.
type Jail struct {
	// UID and GID to become; 0 keeps the caller's.
	UID uint32 `json:"uid,omitempty"`
	GID uint32 `json:"gid,omitempty"`
	// Namespace says that the worker was born in a user namespace of its own.
	Namespace bool `json:"namespace,omitempty"`
	// Strict makes every step that fails an error. Without it a step that
	// the rights do not allow is left out and logged.
	Strict bool `json:"strict,omitempty"`
}

// Cgroup is the vm leaf of a delegated scope.
type Cgroup struct {
	// Procs is a descriptor of its cgroup.procs, Events one of its
	// memory.events; Limit is its memory.max in bytes.
	Procs  int   `json:"procs"`
	Events int   `json:"events"`
	Limit  int64 `json:"limit"`
}

// Files are the descriptors of a worker.
type Files struct {
	Listener *os.File // a bound and listening SOCK_SEQPACKET socket
	RunDir   *os.File
	Console  *os.File // read and append
	Disks    []*os.File
	Tap      *os.File // with Plan.Network
	State    *os.File // with Plan.Restore
	Memory   *os.File
}

// Close closes all of them.
func (f Files) Close() {
	for _, x := range f.inOrder() {
		x.Close()
	}
}

// inOrder is the order in which a worker inherits them, from descriptor 4 on.
func (f Files) inOrder() []*os.File {
	all := append([]*os.File{f.Listener, f.RunDir, f.Console}, f.Disks...)
	if f.Tap != nil {
		all = append(all, f.Tap)
	}
	if f.State != nil {
		all = append(all, f.State, f.Memory)
	}
	return all
}

// Inherit lists the descriptors for exec.Cmd.ExtraFiles: the pipe that the
// plan will come through, then the others.
func (f Files) Inherit(plan *os.File) []*os.File {
	return append([]*os.File{plan}, f.inOrder()...)
}

// Config is one worker.
type Config struct {
	Plan  Plan
	Files Files
	// Driver starts the machine.
	Driver vmm.Driver
	// Network makes the network of a machine whose plan has a Link.
	Network func(Link, *slog.Logger) (Network, error)
	// Confine, if set, is called before such a network may get anything, and
	// when the monitor runs: it takes from this process what only the start
	// needed.
	Confine func() error
	// Shutdown asks a guest that runs to leave in order; nil if nobody can.
	// It returns when the guest has agreed.
	Shutdown func(ctx context.Context, m vmm.Machine) error
	// Grace is how long the guest then may take; 0 means 15 s.
	Grace time.Duration
	// RequestTimeout is how long a peer may take to send its request; 0 means
	// 10 s.
	RequestTimeout time.Duration
	Log            *slog.Logger
}

const (
	defaultGrace          = 15 * time.Second
	defaultRequestTimeout = 10 * time.Second
)

// Run starts the machine, serves its socket and returns when the machine has
// ended and its end is on disk. When ctx ends, the machine is shut down in
// order if it can be, else its plug is pulled. Run closes the files.
func Run(ctx context.Context, c Config) error {
	defer c.Files.Close()
	c.Grace = cmp.Or(c.Grace, defaultGrace)
	c.RequestTimeout = cmp.Or(c.RequestTimeout, defaultRequestTimeout)
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	s, err := newServer(c, leave)
	if err != nil {
		return err
	}
	defer s.close()
	exit := s.live(ctx)
	if exit.Detail == "" && exit.Reason == vmm.ReasonCrashed {
		exit.Detail = "the monitor died without a word"
	}
	exit.Detail = withOOM(c.Plan.Cgroup, exit)
	if err := writeExit(c.Files.RunDir, exit); err != nil {
		// The watchers are told all the same.
		c.Log.Error("recording how the machine ended", "err", err)
	}
	s.ended(exit)
	c.Log.Info("machine ended", "reason", exit.Reason, "detail", exit.Detail)
	return nil
}

// live holds the machine from start to end.
func (s *server) live(ctx context.Context) vmm.Exit {
	limit, cancel := context.WithTimeout(ctx, s.plan.ReadyTimeout)
	defer cancel()
	m, err := s.start(limit)
	if err != nil {
		return s.notStarted(limit, err)
	}
	s.started(m)
	select {
	case <-m.Ready():
		s.ready(s.plan.Restore)
	case <-m.Done():
		return m.Exit()
	case <-limit.Done():
		if ctx.Err() != nil {
			return s.pullPlug(m)
		}
		return s.neverReady(m)
	}
	select {
	case <-m.Done():
		return m.Exit()
	case <-ctx.Done():
		return s.shutDown(m)
	}
}

func (s *server) start(ctx context.Context) (vmm.Machine, error) {
	p := vmm.Plan{
		ID: s.plan.ID, Kernel: s.plan.Kernel, Initramfs: s.plan.Initramfs,
		MemoryMiB: s.plan.MemoryMiB, VCPUs: s.plan.VCPUs, Console: s.files.Console, Dir: s.plan.RunDir,
		MemoryDir: s.plan.MemoryDir, NIC: s.files.Tap,
	}
	for i, d := range s.plan.Disks {
		p.Disks = append(p.Disks, vmm.Disk{Role: d.Role, ReadOnly: d.ReadOnly, File: s.files.Disks[i]})
	}
	if s.plan.Restore {
		p.Restore = &vmm.Snapshot{State: s.files.State, Memory: s.files.Memory}
	}
	if s.network == nil {
		return s.config.Driver.Start(ctx, p)
	}
	p.NIC, p.Frames = s.network.NIC(), true
	m, err := s.config.Driver.Start(ctx, p)
	p.NIC.Close() // the monitor has its own: its end is that of the link
	return m, errors.Join(err, s.confine(m, err))
}

// confine makes sure that a connection which the network gets is of no other
// use to whoever takes this process over. A machine that it cannot be done for
// does not live.
func (s *server) confine(m vmm.Machine, failed error) error {
	if failed != nil || s.config.Confine == nil {
		return nil
	}
	if err := s.config.Confine(); err != nil {
		s.pullPlug(m)
		return fmt.Errorf("confining the worker: %w", err)
	}
	close(s.confined)
	return nil
}

// notStarted says why there is no machine; a monitor that did not come up
// within the limit is no other failure than a guest that did not.
func (s *server) notStarted(limit context.Context, err error) vmm.Exit {
	exit := vmm.Exit{Reason: vmm.ReasonCrashed, Detail: "not started: " + err.Error(), Time: time.Now()}
	if errors.Is(limit.Err(), context.DeadlineExceeded) {
		exit.Reason = vmm.ReasonNeverReady
		exit.Detail = fmt.Sprintf("%s: its monitor was still starting: %s", s.late(), err)
	}
	return exit
}

func (s *server) late() string {
	return fmt.Sprintf("the guest was not ready within %s", s.plan.ReadyTimeout)
}

func (s *server) neverReady(m vmm.Machine) vmm.Exit {
	exit := s.pullPlug(m)
	if exit.Reason != vmm.ReasonStopped {
		return exit // it ended by itself in this very moment
	}
	exit.Reason = vmm.ReasonNeverReady
	exit.Detail = s.late()
	if words := consoleTail(s.files.Console); words != "" {
		exit.Detail += "; its console ends with: " + words
	}
	return exit
}

// pullPlug stops the machine and waits until it is gone: a monitor that got
// SIGKILL cannot refuse.
func (s *server) pullPlug(m vmm.Machine) vmm.Exit {
	if err := m.Stop(context.Background()); err != nil && !errors.Is(err, vmm.ErrEnded) {
		s.config.Log.Error("stopping the machine", "err", err)
	}
	<-m.Done()
	return m.Exit()
}

// shutDown lets the guest leave in order, but not for ever.
func (s *server) shutDown(m vmm.Machine) vmm.Exit {
	grace := s.config.Grace
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	// One that may go on elsewhere must not change its disk.
	if s.config.Shutdown == nil || s.saved.Load() || s.wake(ctx, m) != nil {
		return s.pullPlug(m)
	}
	if err := s.config.Shutdown(ctx, m); err != nil {
		s.config.Log.Warn("asking the guest to leave", "err", err)
		return asked(s.pullPlug(m)) // the answer may be lost with a guest that has left
	}
	select {
	case <-m.Done():
		return asked(m.Exit())
	case <-ctx.Done():
		s.config.Log.Warn("the guest did not leave in time", "grace", grace)
		return s.pullPlug(m)
	}
}

// asked tells the end of a guest that left because it was asked from that of
// one that left by itself.
func asked(exit vmm.Exit) vmm.Exit {
	if exit.Reason == vmm.ReasonPoweroff {
		exit.Reason = vmm.ReasonShutdown
	}
	return exit
}

// wake lets a paused guest go on, so that it can be asked. Not every driver
// can do that, and none needs to for a guest that runs.
func (s *server) wake(ctx context.Context, m vmm.Machine) error {
	if _, r, _ := s.now(); r.State != vmm.StatePaused {
		return nil
	}
	return m.Resume(ctx)
}

// Fail records that the machine was never started, for a worker that cannot
// even Run.
func Fail(p Plan, f Files, why error) error {
	defer f.Close()
	e := vmm.Exit{Reason: vmm.ReasonCrashed, Detail: printable("not started: "+why.Error(), maxDetail), Time: time.Now()}
	if err := writeExit(f.RunDir, e); err != nil {
		return fmt.Errorf("machine %s: %w", p.ID, err)
	}
	return nil
}
