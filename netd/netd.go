// Package netd is about the network of machines: an address and a tap for each,
// and the rules that say what its guest may reach. It has the words that this is
// told in; package host gives networks, netbus carries them over the bus. No
// part of it parses what a guest sent.
package netd

import (
	"context"
	"net/netip"
	"os"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/netd/policy"
)

// The hardware addresses of both ends of every link. They are the same for
// all machines, so that a guest that was restored elsewhere finds what it
// knows.
var (
	GuestMAC   = api.GuestMAC
	GatewayMAC = [6]byte{0x02, 0xae, 0x91, 0x50, 0x00, 0x01}
)

// Lease is the network of one machine.
type Lease struct {
	// Machine is whose it is, Link the name of its tap.
	Machine string `json:"machine"`
	Link    string `json:"link"`
	// Addr is the guest's address, Gateway the host's on the link.
	Addr    netip.Addr `json:"addr"`
	Gateway netip.Addr `json:"gateway"`
	// Resolver answers for names; the zero value where nobody does.
	Resolver netip.Addr    `json:"resolver,omitzero"`
	Policy   policy.Policy `json:"policy"`
}

// Counter is what one rule has counted for one machine.
type Counter struct {
	Name    string `json:"name"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// State is a lease and what is known of it now.
type State struct {
	Lease
	// Up tells whether the tap is there.
	Up bool `json:"up"`
	// Counters are in the order in which a packet meets their rules. All but
	// "allowed" count what was dropped.
	Counters []Counter `json:"counters"`
}

// Support tells what the host can give.
type Support struct {
	// Missing says why machines can have no network here; empty where they
	// can.
	Missing string `json:"missing,omitempty"`
	// Kind is "tap" where each machine has a link to the host's kernel, "user"
	// where its network is in its own jail; Why says why it is the second.
	Kind string `json:"kind,omitempty"`
	Why  string `json:"why,omitempty"`
	// Pools are the networks that guests get addresses from.
	Pools []string `json:"pools,omitempty"`
	// Notes are of what may keep guests from what they may reach, such as
	// another firewall, and of what the host cannot do beside.
	Notes []string `json:"notes,omitempty"`
}

// Denial is what a machine was denied since the denial before.
type Denial struct {
	Machine string
	// Packets are how many, by the name of the counter.
	Packets map[string]uint64
}

// The kinds of networks.
const (
	KindTap  = "tap"
	KindUser = "user"
)

// Network gives machines their networks. Errors are *api.Error with the codes
// NotFound, Exists, InvalidArgument, LimitExceeded, Unavailable or Internal.
type Network interface {
	// Attach makes a network for a machine: an address and the rules of a
	// policy. Its tap is not there before OpenTap.
	Attach(ctx context.Context, machine string, p policy.Policy) (Lease, error)
	// OpenTap makes the tap of a machine that is attached. It lives as long as
	// the descriptor is open in any process.
	OpenTap(ctx context.Context, machine string) (*os.File, error)
	// SetPolicy changes what a machine may reach, also of the connections that
	// it has.
	SetPolicy(ctx context.Context, machine string, p policy.Policy) error
	// Pin opens the addresses that a name has resolved to, if the policy of the
	// machine allows the name.
	Pin(ctx context.Context, machine, name string, addrs []netip.Addr, ttl time.Duration) error
	// Guest tells which machine has an address now.
	Guest(ctx context.Context, addr netip.Addr) (Lease, error)
	// Gateways tells at which addresses guests ask for names, now and whenever
	// it changes, until ctx ends or it cannot be told any more.
	Gateways(ctx context.Context) (<-chan []netip.Addr, error)
	// Denials tells what guests are denied from now on, a machine at most once a
	// second and once more when it is detached, until ctx ends or it cannot be
	// told any more. Who is slow loses the oldest. Unavailable where the host
	// counts and tells nobody.
	Denials(ctx context.Context) (<-chan Denial, error)
	// Detach takes the network of a machine away; none is no error.
	Detach(ctx context.Context, machine string) error
	// Get tells of one machine, with counters; List of all.
	Get(ctx context.Context, machine string) (State, error)
	List(ctx context.Context) ([]Lease, error)
	Support(ctx context.Context) (Support, error)
}
