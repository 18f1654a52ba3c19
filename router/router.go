// Package router owns the exposed ports of this host: their sockets, the table
// that outlives a reboot, and the bytes of their connections, which it carries
// to guests. It knows nothing of instances but their ids and names, and parses
// nothing that a client or a guest says, but for the HTTP front, which is
// package front; who wakes an instance and leads to its guest is a Waker, which
// aegisd is.
//
// There is one seam. Router is what aegisd asks for: Service is the real one,
// in aegis-routerd or in a standalone aegisd, and package routerbus carries it
// over D-Bus.
package router

import (
	"context"
	"net/netip"
	"os"
	"time"

	"github.com/xfeldman/aegisvm/api"
)

// Port is a port of an instance's guest, and where the host offers it.
type Port struct {
	// Instance is an instance's id, Handle its name, if it has one. What was
	// said last holds for all ports of the instance.
	Instance string `json:"instance"`
	Handle   string `json:"handle,omitempty"`
	// Expose has no defaults left open; PublicPort is the port that was asked
	// for, 0 for any.
	api.Expose
}

// Endpoint is what became of a Port.
type Endpoint struct {
	Port
	// ActualPort is the port of the host. One that was not asked for is chosen
	// once and kept.
	ActualPort int `json:"actual_port"`
	// On is whether it is to be open, Open whether it is, and Trouble why it is
	// not; it is tried again.
	On      bool   `json:"on"`
	Open    bool   `json:"open,omitempty"`
	Trouble string `json:"trouble,omitempty"`
}

// Router keeps ports open. What it has said yes to survives its death and a
// reboot. Errors are *api.Error.
type Router interface {
	// Expose opens a port. The same again is the same endpoint; Exists says
	// that the guest's port is exposed otherwise, or that the host's is taken.
	Expose(ctx context.Context, p Port) (Endpoint, error)
	// Unexpose closes a port with its connections; without a protocol all with
	// that number. NotFound says that there is none.
	Unexpose(ctx context.Context, instance string, guestPort int, protocol api.Protocol) error
	// Switch closes the ports of an instance, or opens them again. Off, they
	// are still its ports, but another program may take them.
	Switch(ctx context.Context, instance string, on bool) error
	// Forget closes all ports of an instance. None is no error.
	Forget(ctx context.Context, instance string) error
	// List tells all ports, by instance and number.
	List(ctx context.Context) ([]Endpoint, error)
	// Front tells where requests for all instances are taken.
	Front(ctx context.Context) (Front, error)
	// Watch tells, until ctx ends, that List may have changed; at first, too.
	Watch(ctx context.Context) (<-chan struct{}, error)
}

// Waker leads to guests; aegisd is one.
type Waker interface {
	// Wake returns when the instance's program has been started, and starts or
	// resumes it where that is allowed. With renew it does neither: then a
	// paused instance gives a lease that says so, and one at rest is BadState.
	Wake(ctx context.Context, instance string, renew bool) (Awake, error)
}

// Awake is an instance that can be dialled.
type Awake struct {
	// Lease keeps the instance awake as long as it is open: see LeaseState and
	// LeaseUse. It ends with the instance's machine, and with aegisd.
	Lease *os.File
	// Dialer leads to proto.PortForward of its guest, as package dialer has it.
	Dialer *os.File
	// Address is the guest's own, where a program that listens there or
	// everywhere can be dialled; the zero value where there is none.
	Address netip.Addr
	// Started is when its program was.
	Started time.Time
}

// Close closes what is there.
func (a Awake) Close() {
	for _, f := range []*os.File{a.Lease, a.Dialer} {
		if f != nil {
			f.Close()
		}
	}
}

// LeaseState is what the waker says over a lease, in packets.
type LeaseState struct {
	// Asleep is whether somebody has paused the instance: who needs it has to
	// wake it anew.
	Asleep bool `json:"asleep"`
}

// LeaseUse is what the router says over a lease, in packets.
type LeaseUse struct {
	// Connections is how many are open.
	Connections int `json:"connections"`
}
