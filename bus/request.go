package bus

import (
	"context"
	"os"
	"slices"
	"sync"

	"github.com/godbus/dbus/v5"

	"github.com/xfeldman/aegisvm/api"
)

// Request is one method call that a handler answers.
type Request struct {
	// Path is the object that was called, Sender the unique bus name of the
	// caller.
	Path   dbus.ObjectPath
	Sender string

	conn *Conn

	mu       sync.Mutex // guards the maps
	received map[dbus.UnixFD]*os.File
	sending  []*os.File
}

// File is the file of a descriptor among the in-arguments. It is closed when
// the handler returns; nil for a number that was not sent.
func (r *Request) File(fd dbus.UnixFD) *os.File {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.received[fd]
}

// Send gives a file to the reply, which closes it once it is sent, and
// returns the descriptor to put among the out-arguments. A nil file gives -1,
// for a handler that returns an error beside it.
func (r *Request) Send(f *os.File) dbus.UnixFD {
	if f == nil {
		return -1
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sending = append(r.sending, f)
	fd, err := FD(f)
	if err != nil {
		return -1 // closed: the reply cannot be sent, and the caller is told so
	}
	return fd
}

// Caller tells who calls, as the bus knows it from the kernel.
func (r *Request) Caller(ctx context.Context) (api.Caller, error) {
	return r.conn.Credentials(ctx, r.Sender)
}

// adopt makes files of all descriptors of the message at once.
func (r *Request) adopt(body []any) {
	for _, fd := range descriptors(body) {
		if _, twice := r.received[fd]; !twice {
			r.received[fd] = File(fd, "bus")
		}
	}
}

// done closes what the handler left.
func (r *Request) done() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.received {
		f.Close()
	}
	for _, f := range r.sending {
		f.Close()
	}
	r.received, r.sending = nil, nil
}

// Authorizer decides whether a caller may use an interface.
type Authorizer func(ctx context.Context, r *Request) error

// AllowUIDs lets root and the given users through and denies all others.
func AllowUIDs(uids ...uint32) Authorizer {
	return func(ctx context.Context, r *Request) error {
		who, err := r.Caller(ctx)
		if err != nil {
			return err
		}
		if who.UID == 0 || slices.Contains(uids, who.UID) {
			return nil
		}
		return api.Errorf(api.Denied, "user %d may not use this service: only root and the daemons of AegisVM may", who.UID)
	}
}
