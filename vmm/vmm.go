// Package vmm owns machines: it turns a backend-neutral Plan into a running
// virtual machine, keeps it, and tells how it ended. It knows nothing of
// instances, images, networks or what is said over a guest's ports, and it
// parses nothing that a guest sent.
//
// There are two seams. A Driver (qemu, cloudhypervisor, krun, fake) starts one
// machine and lives in that machine's worker process. A Manager keeps all
// machines of a host, each behind its worker, and survives its own restart:
// vmmd exports it on the bus, a standalone aegisd holds it directly.
package vmm

import (
	"context"
	"net"
	"os"
	"time"
)

// Role names the place of a disk in a machine. Every role has one fixed
// device slot, so that a guest sees the same devices in every machine, and
// the role is the disk's serial number in the guest.
type Role string

// The disks of a machine, in the order of their slots.
const (
	RoleImage Role = "image" // read-only EROFS image, shared by machines
	RoleOwn   Role = "own"   // writable ext4 of the instance
	RoleTools Role = "tools" // read-only, ours
	RoleKit   Role = "kit"   // read-only, a kit's binaries
)

// Roles lists the roles in the order of their slots.
var Roles = []Role{RoleImage, RoleOwn, RoleTools, RoleKit}

// Disk is one disk of a machine, by descriptor: a driver never opens a path
// that somebody else chose.
type Disk struct {
	Role     Role
	ReadOnly bool
	// File is the raw disk. Whoever starts the machine keeps it open until
	// the start has returned, and closes it.
	File *os.File
}

// Plan is what a driver needs to start a machine.
type Plan struct {
	// ID names the machine: [a-z0-9-], 1 to 32 characters.
	ID string
	// Kernel is an uncompressed ELF kernel with a PVH note, or the
	// distribution's compressed one; Initramfs holds the harness. Both are
	// paths of our own installation.
	Kernel, Initramfs string
	// MemoryMiB is the guest's memory, VCPUs the number of its processors.
	MemoryMiB, VCPUs int
	Disks            []Disk
	// NIC is the tap of the guest's network device, which has the hardware
	// address api.GuestMAC; nil is none. A driver uses it as it is. With Frames
	// it is a stream socket instead, over which frames go, each behind its
	// length in four bytes, the most significant first.
	NIC    *os.File
	Frames bool
	// Console receives what the guest writes to its console.
	Console *os.File
	// Dir is the machine's own directory, for sockets of the driver.
	Dir string
	// MemoryDir is a file system in memory that is the machine's own, for a
	// driver that must name the file of the guest's memory; empty means Dir.
	MemoryDir string
	// Restore starts the machine from a snapshot instead of a boot. It is
	// paused then, as it was when that was taken.
	Restore *Snapshot
}

// FramesMTU is the largest packet on a network device with Plan.Frames.
const FramesMTU = 65520

// Snapshot is a stopped machine on disk: its device state and its memory.
// It can be restored only with the plan it was taken with, other disks of
// the same size and content excepted.
type Snapshot struct {
	State, Memory *os.File
}

// Driver starts machines with one virtual machine monitor.
type Driver interface {
	// Name is "qemu", "cloudhypervisor", "krun" or "fake".
	Name() string
	// Probe tells whether the driver works on this host and how well. A
	// missing program or device is told in Support.Missing, not as an error.
	Probe(ctx context.Context) (Support, error)
	// Start starts the machine's monitor. It returns as soon as the monitor
	// runs; Machine.Ready tells when the guest does.
	Start(ctx context.Context, p Plan) (Machine, error)
}

// Support is what a driver can do on this host.
type Support struct {
	// Driver and Version name the monitor; Accel is "kvm", "tcg" or "hvf".
	Driver, Version, Accel string
	// ClockKHz is the frequency of the host's time stamp counter where an
	// emulated guest must be told it; else 0.
	ClockKHz int
	// Missing says what is missing and which package brings it; empty when
	// the driver works.
	Missing string
	// Note warns of something slow or unusual, such as software emulation.
	Note string
	// Snapshots is whether Snapshot and Restore work.
	Snapshots bool
	// Frames is whether Plan.Frames does.
	Frames bool
}

// Conn is a stream to a guest port; CloseWrite ends our direction only.
type Conn interface {
	net.Conn
	CloseWrite() error
}

// Machine is one started virtual machine. All methods may be called from
// several goroutines; those that act on a machine that has ended return an
// error that wraps ErrEnded.
type Machine interface {
	// Pid is the monitor's process, 0 if it has none of its own.
	Pid() int
	// Ready is closed when the guest has rung the doorbell (or at once after
	// a restore).
	Ready() <-chan struct{}
	// Connect dials a port of the guest. It needs Ready.
	Connect(ctx context.Context, port uint32) (Conn, error)
	// Pause stops the virtual processors; Resume lets them go on. Both are
	// no-ops in the state they lead to.
	Pause(ctx context.Context) error
	Resume(ctx context.Context) error
	// Snapshot writes a paused machine to s and leaves it paused.
	Snapshot(ctx context.Context, s Snapshot) error
	// Stop ends the machine now, as pulling its plug would, and returns when
	// its monitor is gone.
	Stop(ctx context.Context) error
	// Done is closed when the machine has ended; Exit then tells how.
	Done() <-chan struct{}
	Exit() Exit
}

// Reason says in one word how a machine ended.
type Reason string

// The reasons.
const (
	// ReasonPoweroff: the guest left in order.
	ReasonPoweroff Reason = "poweroff"
	// ReasonShutdown: it did so because the host's service manager ended the
	// machine's worker or scope.
	ReasonShutdown Reason = "shutdown"
	// ReasonStopped: Stop was called.
	ReasonStopped Reason = "stopped"
	// ReasonPanic: the guest's kernel panicked; Exit.Detail has its words.
	ReasonPanic Reason = "panic"
	// ReasonCrashed: the monitor died; Exit.Detail says how.
	ReasonCrashed Reason = "crashed"
	// ReasonNeverReady: the guest did not ring within Spec.ReadyTimeout.
	ReasonNeverReady Reason = "never-ready"
	// ReasonWorkerLost: the worker died, and its machine with it.
	ReasonWorkerLost Reason = "worker-lost"
)

// Exit is how a machine ended.
type Exit struct {
	Reason Reason    `json:"reason"`
	Detail string    `json:"detail,omitempty"`
	Time   time.Time `json:"time"`
}

// State is where a machine is in its life.
type State string

// The states of a machine.
const (
	StateStarting State = "starting" // started, the guest is not ready yet
	StateRunning  State = "running"
	StatePaused   State = "paused"
	StateEnded    State = "ended" // gone; kept until Remove, for its Exit
)

// Spec is what a caller of Manager.Start chooses.
type Spec struct {
	// ID names the machine: [a-z0-9-], 1 to 32 characters, never used before.
	ID string
	// MemoryMiB is the guest's memory, 64 or more; VCPUs 1 to 8, the kernel's
	// NR_CPUS.
	MemoryMiB, VCPUs int
	Disks            []Disk
	// Network names the network of the machine, which was attached before;
	// empty is none.
	Network string
	// ReadyTimeout is how long the guest may take to ring; 0 means 60 s.
	ReadyTimeout time.Duration
	// Restore is the id of a snapshot to start from instead of a boot. Memory,
	// processors and the roles of disks must be those of the machine that it
	// was taken of, and the disks as that machine left them. The new one is
	// paused until Resume, and the snapshot stays.
	Restore string
}

// Saved describes a snapshot in a manager's store.
type Saved struct {
	ID string `json:"id"`
	// Machine is the one that it was taken of.
	Machine   string `json:"machine"`
	MemoryMiB int    `json:"memory_mib"`
	VCPUs     int    `json:"vcpus"`
	Disks     []Role `json:"disks"`
	// Driver, Version and Accel are those of the monitor that wrote it.
	Driver  string `json:"driver"`
	Version string `json:"version"`
	Accel   string `json:"accel"`
	// Frames says that its network was in its worker.
	Frames bool `json:"frames,omitempty"`
	// Guest is the digest of the kernel and initramfs that it runs on, which
	// are kept as long as it is.
	Guest string `json:"guest"`
	// Bytes is what it takes on disk.
	Bytes int64     `json:"bytes"`
	Taken time.Time `json:"taken"`
}

// Info describes a machine.
type Info struct {
	ID    string `json:"id"`
	State State  `json:"state"`
	// Driver and Accel as in Support.
	Driver string `json:"driver"`
	Accel  string `json:"accel"`
	// Pid is the monitor's, WorkerPid its worker's; 0 when gone.
	Pid       int       `json:"pid,omitempty"`
	WorkerPid int       `json:"worker_pid,omitempty"`
	MemoryMiB int       `json:"memory_mib"`
	VCPUs     int       `json:"vcpus"`
	Started   time.Time `json:"started"`
	// Exit is set when State is StateEnded.
	Exit *Exit `json:"exit,omitempty"`
}

// Manager keeps the machines of a host. Errors are *api.Error with code
// NotFound, Exists, BadState, InvalidArgument, Unavailable or Internal.
type Manager interface {
	// Start starts a machine and returns when its guest is ready. On any
	// error nothing of the machine is left but, where it ran at all, its
	// console, which the error quotes.
	Start(ctx context.Context, s Spec) (Info, error)
	// Get and List tell of machines that run or have ended and were not
	// removed.
	Get(ctx context.Context, id string) (Info, error)
	List(ctx context.Context) ([]Info, error)
	// Connect dials a port of the guest. The descriptor is a connected
	// stream socket; shutting down its write side half-closes the stream.
	Connect(ctx context.Context, id string, port uint32) (*os.File, error)
	// Dialer gives a socket to the machine's worker over which connections to
	// that one port can be asked for, by package dialer, without another call.
	Dialer(ctx context.Context, id string, port uint32) (*os.File, error)
	// Pause and Resume as in Machine.
	Pause(ctx context.Context, id string) error
	Resume(ctx context.Context, id string) error
	// Snapshot writes a paused machine to a new snapshot in the manager's own
	// store and leaves it paused. When it returns, the snapshot is whole and on
	// disk; of one that failed nothing is left. LimitExceeded says that the disk
	// has no room for it, BadState that the machine cannot be snapshotted.
	Snapshot(ctx context.Context, id, snapshot string) (Saved, error)
	// Snapshots lists the store, RemoveSnapshot deletes from it; one that is
	// not there is no error.
	Snapshots(ctx context.Context) ([]Saved, error)
	RemoveSnapshot(ctx context.Context, snapshot string) error
	// Stop ends a machine now and returns when its monitor and worker are
	// gone. A machine that has ended already is not an error.
	Stop(ctx context.Context, id string) error
	// Remove forgets an ended machine and deletes its directory.
	Remove(ctx context.Context, id string) error
	// Watch sends the Info of a machine at each change of its state, in
	// order, until ctx ends; the current ones come first. A slow reader is
	// never skipped for an ended machine.
	Watch(ctx context.Context) (<-chan Info, error)
	// Support tells what the chosen driver can do.
	Support(ctx context.Context) (Support, error)
}
