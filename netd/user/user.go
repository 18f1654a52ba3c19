// Package user is the netd.Network of a host where nobody may make taps: each
// machine has a network stack in its own jail (package stack), and this package
// opens the connections that the stack asks for, if the policy of the machine
// allows them. It parses no packet and needs no right. What it hands out are
// sockets that are connected already; datagrams it carries itself, because a
// socket of UDP would send wherever its holder likes. It may be killed at any
// time: connections of TCP go on without it.
package user

import (
	"cmp"
	"context"
	"iter"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/netd"
	"github.com/xfeldman/aegisvm/netd/lease"
	"github.com/xfeldman/aegisvm/netd/policy"
	"github.com/xfeldman/aegisvm/netd/readers"
)

// Options say how machines get their networks.
type Options struct {
	// Dir has the records; it must not outlive the host's boot by much.
	Dir string
	// Pools are the networks that guests get addresses from; nil means
	// lease.DefaultPools. No address of them is ever on the host, so several
	// hosts and owners may use the same.
	Pools []netip.Prefix
	// DNS says that somebody serves Names.
	DNS bool
	// Why says why machines have no taps.
	Why string
	// DialTimeout is how long a connection may take to be made, default 30 s.
	DialTimeout time.Duration
	// Idle is how long datagrams of one flow may stay away before it ends,
	// default 1 min.
	Idle time.Duration
	Log  *slog.Logger
}

// Network is the Network of machines with a stack of their own.
type Network struct {
	options Options
	records lease.Records
	names   *names
	log     *slog.Logger

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu       sync.Mutex // guards machines
	machines map[string]*machine

	gateways readers.Readers[[]netip.Addr]
	denials  readers.Readers[netd.Denial]
}

var _ netd.Network = (*Network)(nil)

// Open reads what an earlier one has given to machines.
func Open(o Options) (*Network, error) {
	o.Pools = slices.Clone(o.Pools)
	if len(o.Pools) == 0 {
		o.Pools = lease.DefaultPools
	}
	if err := lease.CheckPools(o.Pools); err != nil {
		return nil, err
	}
	o.DialTimeout, o.Idle = cmp.Or(o.DialTimeout, 30*time.Second), cmp.Or(o.Idle, time.Minute)
	n := &Network{
		options: o, records: lease.Records{Dir: o.Dir}, names: newNames(), machines: map[string]*machine{},
		log: cmp.Or(o.Log, slog.New(slog.DiscardHandler)).With("component", "netd"),
	}
	leases, err := n.records.Read(func(file string, err error) { n.log.Error("a lease cannot be read", "file", file, "error", err) })
	if err != nil {
		return nil, api.Errorf(api.Internal, "opening the network: %w", err)
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	for id, l := range leases {
		m, err := n.newMachine(l)
		if err != nil {
			n.Close()
			return nil, api.Errorf(api.Internal, "opening the network: %w", err)
		}
		n.machines[id] = m
	}
	return n, nil
}

// Close lets go of all machines, whose connections of TCP go on.
func (n *Network) Close() {
	n.cancel()
	n.names.Close()
	n.mu.Lock()
	for _, m := range n.machines {
		m.close()
	}
	n.mu.Unlock()
	n.tasks.Wait()
}

// Names are the questions of all guests to port 53 of their gateways, as a
// socket of datagrams and a listener for whoever answers them. The addresses
// that they tell are the guests'.
func (n *Network) Names() (net.PacketConn, net.Listener) { return n.names, (*nameStreams)(n.names) }

func (n *Network) find(id string) (*machine, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := n.machines[id]
	if m == nil {
		return nil, api.Errorf(api.NotFound, "machine %q has no network", id)
	}
	return m, nil
}

// Attach implements netd.Network.
func (n *Network) Attach(_ context.Context, id string, p policy.Policy) (netd.Lease, error) {
	if err := lease.CheckMachine(id); err != nil {
		return netd.Lease{}, err
	}
	if err := p.Check(); err != nil {
		return netd.Lease{}, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.machines[id] != nil {
		return netd.Lease{}, api.Errorf(api.Exists, "machine %q has a network already", id)
	}
	l, err := n.choose(id, p)
	if err != nil {
		return l, err
	}
	m, err := n.newMachine(l)
	if err == nil {
		if err = n.records.Write(l); err != nil {
			m.close()
		}
	}
	if err != nil {
		return netd.Lease{}, api.Errorf(api.Internal, "attaching machine %s: %w", id, err)
	}
	n.machines[id] = m
	n.gateways.Tell(lease.Resolvers(n.leases()))
	n.log.Info("attached", "machine", id, "addr", l.Addr)
	return l, nil
}

// choose gives a machine an address that no other has and that is not in a
// network of the host, which the guest could not reach then if it may.
func (n *Network) choose(id string, p policy.Policy) (netd.Lease, error) {
	used := map[netip.Addr]bool{}
	for l := range n.leases() {
		used[l.Addr] = true
	}
	taken, err := ownNetworks()
	if err != nil {
		return netd.Lease{}, api.Errorf(api.Internal, "attaching machine %s: %w", id, err)
	}
	at, err := lease.Choose(n.options.Pools, used, taken, func(netip.Prefix) bool { return true })
	if err != nil {
		return netd.Lease{}, err
	}
	l := netd.Lease{Machine: id, Addr: at.Addr, Gateway: at.Gateway, Policy: p}
	if n.options.DNS {
		l.Resolver = l.Gateway
	}
	return l, nil
}

// OpenTap implements netd.Network: there are none.
func (n *Network) OpenTap(_ context.Context, id string) (*os.File, error) {
	if _, err := n.find(id); err != nil {
		return nil, err
	}
	return nil, api.Errorf(api.Unavailable, "machine %q has its network in its worker and no tap", id)
}

// Link tells the addresses on the link of a machine, for its stack.
func (n *Network) Link(_ context.Context, id string) (guest, gateway netip.Addr, err error) {
	m, err := n.find(id)
	if err != nil {
		return guest, gateway, err
	}
	l := m.lease()
	return l.Addr, l.Gateway, nil
}

// SetPolicy implements netd.Network. What the new policy does not allow is
// ended: flows of datagrams here, connections by the stack, which asks again
// for each.
func (n *Network) SetPolicy(_ context.Context, id string, p policy.Policy) error {
	if err := p.Check(); err != nil {
		return err
	}
	m, err := n.find(id)
	if err != nil {
		return err
	}
	if err := m.setPolicy(p, n.records); err != nil {
		return api.Errorf(api.Internal, "changing the policy of machine %s: %w", id, err)
	}
	return nil
}

// Pin implements netd.Network.
func (n *Network) Pin(_ context.Context, id, name string, addrs []netip.Addr, ttl time.Duration) error {
	m, err := n.find(id)
	if err != nil {
		return err
	}
	if err := m.pin(name, addrs, ttl); err != nil {
		return api.Errorf(api.Internal, "pinning %.80q for machine %s: %w", name, id, err)
	}
	return nil
}

// Guest implements netd.Network.
func (n *Network) Guest(_ context.Context, addr netip.Addr) (netd.Lease, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for l := range n.leases() {
		if l.Addr == addr {
			return l, nil
		}
	}
	return netd.Lease{}, api.Errorf(api.NotFound, "no machine has the address %s", addr)
}

// Gateways implements netd.Network. Nobody can listen there: see Names.
func (n *Network) Gateways(ctx context.Context) (<-chan []netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.gateways.Follow(ctx, lease.Resolvers(n.leases())), nil
}

// Denials implements netd.Network.
func (n *Network) Denials(ctx context.Context) (<-chan netd.Denial, error) {
	return n.denials.Follow(ctx), nil
}

// leases are those of all machines; the caller holds mu.
func (n *Network) leases() iter.Seq[netd.Lease] {
	return func(yield func(netd.Lease) bool) {
		for _, m := range n.machines {
			if !yield(m.lease()) {
				return
			}
		}
	}
}

// Detach implements netd.Network.
func (n *Network) Detach(_ context.Context, id string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := n.machines[id]
	if m == nil {
		return nil
	}
	m.close()
	if err := m.forget(n.records); err != nil {
		return api.Errorf(api.Internal, "detaching machine %s: %w", id, err)
	}
	delete(n.machines, id)
	n.gateways.Tell(lease.Resolvers(n.leases()))
	n.log.Info("detached", "machine", id)
	return nil
}

// Get implements netd.Network.
func (n *Network) Get(ctx context.Context, id string) (netd.State, error) {
	m, err := n.find(id)
	if err != nil {
		return netd.State{}, err
	}
	return m.state(ctx), nil
}

// List implements netd.Network.
func (n *Network) List(context.Context) ([]netd.Lease, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := slices.AppendSeq([]netd.Lease{}, n.leases())
	slices.SortFunc(all, func(a, b netd.Lease) int { return cmp.Compare(a.Machine, b.Machine) })
	return all, nil
}

// Support implements netd.Network.
func (n *Network) Support(context.Context) (netd.Support, error) {
	s := netd.Support{Kind: netd.KindUser, Why: n.options.Why}
	for _, p := range n.options.Pools {
		s.Pools = append(s.Pools, p.String())
	}
	if err := mayPing(); err != nil {
		s.Notes = append(s.Notes, "guests cannot ping: "+err.Error())
	}
	return s, nil
}

// file is one of a machine's files beside its record.
func (n *Network) file(id, suffix string) string { return filepath.Join(n.options.Dir, id+suffix) }
