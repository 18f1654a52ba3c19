package api

import (
	"context"
	"fmt"
	"net"
	"strconv"
)

// Ports is the part of Aegis that offers ports of guests on the host.
type Ports interface {
	// Expose offers a port from now on, over restarts of everything, until
	// Unexpose or Delete. A connection wakes an instance that is paused, and
	// one at rest whose restart policy is on-demand. The same again is the same
	// endpoint. Exists says that the guest's port is exposed otherwise, or that
	// the host's is taken.
	Expose(ctx context.Context, ref string, e Expose) (Endpoint, error)
	// Unexpose closes a port and its connections; without a protocol all that
	// there are with that number.
	Unexpose(ctx context.Context, ref string, guestPort int, protocol Protocol) error
}

// Endpoint is where the host offers a port of a guest.
type Endpoint struct {
	GuestPort int `json:"guest_port"`
	// PublicPort is the host's. One that was not asked for is chosen once and
	// kept.
	PublicPort int      `json:"public_port"`
	Protocol   Protocol `json:"protocol"`
	Bind       string   `json:"bind"`
	// URL is where to connect, for people.
	URL string `json:"url"`
	// Trouble is why it is not open just now; it is tried again.
	Trouble string `json:"trouble,omitempty"`
}

// WithURL fills in the URL.
func (e Endpoint) WithURL() Endpoint {
	e.URL = fmt.Sprintf("%s://%s", e.Protocol, net.JoinHostPort(e.Bind, strconv.Itoa(e.PublicPort)))
	return e
}

// Reach is what is known of how an instance is reached.
type Reach struct {
	// ExposePorts are the guest's ports of Endpoints, which are those that the
	// instance has on the host. A disabled instance has them and they are
	// closed.
	ExposePorts []int      `json:"expose_ports,omitempty"`
	Endpoints   []Endpoint `json:"endpoints,omitempty"`
}
