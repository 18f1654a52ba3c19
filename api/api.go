// Package api has the types that cross a boundary (instance specification,
// status, events, errors) and the interface that aegisd implements and every
// transport carries. It imports nothing of this module and does nothing.
package api

import (
	"context"
	"os"
)

// Streams are the ends of an attached program. The caller closes all of them.
type Streams struct {
	// Stdin is nil unless the spec asked for it; shutting down its write
	// side ends the process's input. Stdout and Stderr end with the process.
	Stdin, Stdout, Stderr *os.File
	// Status carries one proto.End line and ends. It ends without
	// one when the machine went first: then the instance says why.
	Status *os.File
	// Terminal is the whole traffic of a program's terminal, both ways; Stdin,
	// Stdout and Stderr are nil then. Closing it hangs the terminal up, unless
	// the program is detached.
	Terminal *os.File
	// Session stays open as long as the client wants the process; when the
	// client closes it or dies, an AutoRemove instance is torn down and any
	// other goes on without its streams. The client reads its end when the
	// instance has come to rest, so that its record is final, or when aegisd
	// has gone; the other streams outlive aegisd, and Rejoin tells the next
	// one that the client is still there.
	Session *os.File
}

// Close closes every stream there is.
func (s *Streams) Close() {
	for _, f := range []*os.File{s.Stdin, s.Stdout, s.Stderr, s.Status, s.Session, s.Terminal} {
		if f != nil {
			f.Close()
		}
	}
}

// Caller is who asks, as the transport knows it from the kernel.
type Caller struct {
	UID, GID uint32
	PID      int32
}

// Aegis is the whole of what clients may ask of aegisd. REF is an instance's
// id or handle. Errors are *Error.
type Aegis interface {
	// Create writes the record and starts the instance in the background:
	// when it returns, the instance survives any crash. A handle that is taken
	// is refused with Exists, with one exception for those who start services
	// by name: a spec without Attach and AutoRemove that names an instance at
	// rest starts that one again. Its secrets are added to those there are;
	// whatever else it asks for must be what the instance has. An instance that
	// is to stay and asks for what this aegisd cannot do is made and not
	// started: then the error is Unavailable and names it.
	Create(ctx context.Context, who Caller, spec InstanceSpec) (Instance, error)
	Get(ctx context.Context, ref string) (Instance, error)
	// List tells all instances: running ones first, disabled ones last, then
	// by age.
	List(ctx context.Context) ([]Instance, error)
	// Start starts a stopped, failed or disabled instance in the background and
	// resumes a paused one; it is a no-op on a running one.
	Start(ctx context.Context, ref string) (Instance, error)
	// Stop ends the instance in order (SIGTERM to its processes, sync,
	// poweroff; the plug after a grace of 10 s) and returns when its machine
	// is gone. Its restart policy has no say until its next start.
	Stop(ctx context.Context, ref string) (Instance, error)
	// Delete stops the instance at once and removes its record and disk. It
	// returns when nothing is left.
	Delete(ctx context.Context, ref string) error
	// Attach waits until the primary process of an instance made with Attach
	// has started and hands out its streams; once per start. The error of a
	// start that failed is returned here. A caller that gives up waiting
	// counts as gone.
	Attach(ctx context.Context, ref string) (*Streams, error)
	// Signal sends a signal to the primary process's group.
	Signal(ctx context.Context, ref string, signal int) error
	// Events follows all changes from now on until ctx ends. A reader that
	// does not keep up loses the stream, never single events.
	Events(ctx context.Context) (<-chan Event, error)
	Status(ctx context.Context) (Status, error)

	SecretStore
	Sessions
	SecretUse
	Life
	Images
	Executor
	Logs
	Copies
	Workspaces
	Files
	Ports
	Networks
}
