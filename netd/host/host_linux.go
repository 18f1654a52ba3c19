package host

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/netd"
	"github.com/xfeldman/aegisvm/netd/lease"
	"github.com/xfeldman/aegisvm/netd/nft"
	"github.com/xfeldman/aegisvm/netd/policy"
	"github.com/xfeldman/aegisvm/netd/readers"
	"github.com/xfeldman/aegisvm/netd/tap"
)

// Network is the Network of this host.
type Network struct {
	options Options
	records lease.Records
	table   *nft.Table
	log     *slog.Logger

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu     sync.Mutex // guards what follows, and all that is in the kernel
	leases map[string]netd.Lease
	claims claims
	opened []string // the host's links that forward because of us

	toldGateways []netip.Addr // to those who listen

	gateways readers.Readers[[]netip.Addr]
	denials  denials
}

var _ netd.Network = (*Network)(nil)

// Open makes the host's network agree with the leases that there are, and
// keeps it so until Close. It fails where machines can have no network; the
// error says why.
func Open(ctx context.Context, o Options) (*Network, error) {
	o.Pools = slices.Clone(o.Pools)
	if len(o.Pools) == 0 {
		o.Pools = lease.DefaultPools
	}
	if err := lease.CheckPools(o.Pools); err != nil {
		return nil, err
	}
	if err := tap.Possible(); err != nil {
		return nil, api.Errorf(api.Unavailable, "opening the network: %w", err)
	}
	n := &Network{
		options: o, records: lease.Records{Dir: o.Dir}, log: cmp.Or(o.Log, slog.New(slog.DiscardHandler)).With("component", "netd"),
		table: nft.New(nft.Config{Name: o.table(), Pools: o.Pools, DNS: o.DNS}), claims: claims{},
	}
	var err error
	n.leases, err = n.records.Read(func(file string, err error) { n.log.Error("a lease cannot be read", "file", file, "error", err) })
	if err == nil {
		n.opened, err = n.readOpened()
	}
	n.ctx, n.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err == nil {
		n.listen()
		err = n.reconcile()
	}
	if err != nil {
		n.Close()
		return nil, failure(ctx, "opening the network", err)
	}
	n.tellGateways()
	n.watch()
	n.followDenials()
	return n, nil
}

// Close lets go of everything and takes nothing away.
func (n *Network) Close() {
	n.cancel()
	if n.denials.ear != nil {
		n.denials.ear.Close()
	}
	n.tasks.Wait()
	n.table.Close()
	n.claims.release()
}

// failure gives an error of the kernel a code.
func failure(ctx context.Context, what string, err error) error {
	var known *api.Error
	switch {
	case err == nil || errors.As(err, &known):
		return err
	case errors.Is(err, os.ErrPermission):
		return api.Errorf(api.Unavailable, "%s: %w: CAP_NET_ADMIN is needed", what, err)
	case ctx.Err() != nil:
		return api.Errorf(api.Unavailable, "%s: %w", what, err)
	}
	return api.Errorf(api.Internal, "%s: %w", what, err)
}

// used are the addresses that are given away.
func (n *Network) used() map[netip.Addr]bool {
	all := map[netip.Addr]bool{}
	for _, l := range n.leases {
		all[l.Addr] = true
	}
	return all
}

func (n *Network) find(machine string) (netd.Lease, error) {
	l, ok := n.leases[machine]
	if !ok {
		return l, api.Errorf(api.NotFound, "machine %q has no network", machine)
	}
	return l, nil
}

func (n *Network) guest(l netd.Lease) nft.Guest {
	return nft.Guest{
		Link: l.Link, Addr: l.Addr, Gateway: l.Gateway, MAC: netd.GuestMAC[:], GatewayMAC: netd.GatewayMAC[:], Policy: l.Policy,
	}
}

// Attach implements Network. The record comes first, then the rules; the tap
// is made when everything that guards it is there.
func (n *Network) Attach(ctx context.Context, machine string, p policy.Policy) (netd.Lease, error) {
	if err := lease.CheckMachine(machine); err != nil {
		return netd.Lease{}, err
	}
	if err := p.Check(); err != nil {
		return netd.Lease{}, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, there := n.leases[machine]; there {
		return netd.Lease{}, api.Errorf(api.Exists, "machine %q has a network already", machine)
	}
	l, err := n.newLease(machine, p)
	if err == nil {
		err = n.records.Write(l)
	}
	if err != nil {
		return netd.Lease{}, failure(ctx, "attaching machine "+machine, err)
	}
	n.leases[machine] = l
	n.tellGateways() // who answers there is there before the guest
	if err := n.establish(l); err != nil {
		return netd.Lease{}, errors.Join(failure(ctx, "attaching machine "+machine, err), n.detach(machine))
	}
	n.log.Info("attached", "machine", machine, "link", l.Link, "addr", l.Addr)
	return l, nil
}

// newLease chooses what a machine gets.
func (n *Network) newLease(machine string, p policy.Policy) (netd.Lease, error) {
	all, ours, err := tap.Names(n.mark(""))
	if err != nil {
		return netd.Lease{}, err
	}
	taken, _, err := tap.Routes(func(link string) bool { return slices.Contains(ours, link) })
	if err != nil {
		return netd.Lease{}, err
	}
	at, err := lease.Choose(n.options.Pools, n.used(), taken, n.claims.take)
	if err != nil {
		return netd.Lease{}, err
	}
	l := netd.Lease{Machine: machine, Link: n.freeLink(all), Addr: at.Addr, Gateway: at.Gateway, Policy: p}
	if n.options.DNS {
		l.Resolver = l.Gateway
	}
	return l, nil
}

// freeLink is the first name that no link and no lease has.
func (n *Network) freeLink(links []string) string {
	for _, l := range n.leases {
		links = append(links, l.Link)
	}
	for i := 0; ; i++ {
		if name := nft.LinkPrefix + strconv.Itoa(i); !slices.Contains(links, name) {
			return name
		}
	}
}

// establish puts into the kernel what a lease needs before its tap. The first
// one brings what all share.
func (n *Network) establish(l netd.Lease) error {
	if len(n.leases) == 1 {
		return n.restore()
	}
	return n.table.Put(n.guest(l))
}

// mark is the alias of a machine's tap.
func (n *Network) mark(machine string) string { return n.options.table() + ":" + machine }

// OpenTap implements Network.
func (n *Network) OpenTap(ctx context.Context, machine string) (*os.File, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l, err := n.find(machine)
	if err != nil {
		return nil, err
	}
	f, err := tap.Make(tap.Tap{
		Name: l.Link, Alias: n.mark(machine), Gateway: l.Gateway, Guest: l.Addr, MAC: netd.GatewayMAC[:], GuestMAC: netd.GuestMAC[:],
	}, func() error { return n.table.Wire(n.guest(l)) })
	if err != nil {
		return nil, failure(ctx, "opening the tap of machine "+machine, err)
	}
	return f, nil
}

// SetPolicy implements Network.
func (n *Network) SetPolicy(ctx context.Context, machine string, p policy.Policy) error {
	if err := p.Check(); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	before, err := n.find(machine)
	if err != nil {
		return err
	}
	after := before
	after.Policy = p
	if err := n.records.Write(after); err != nil {
		return failure(ctx, "changing the policy of machine "+machine, err)
	}
	n.leases[machine] = after
	if err := n.table.Put(n.guest(after)); err != nil {
		n.leases[machine] = before
		return failure(ctx, "changing the policy of machine "+machine, errors.Join(err, n.records.Write(before)))
	}
	return failure(ctx, "changing the policy of machine "+machine, n.table.Unpin(n.guest(after)))
}

// Detach implements Network.
func (n *Network) Detach(ctx context.Context, machine string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, there := n.leases[machine]; !there {
		return nil
	}
	if err := n.detach(machine); err != nil {
		return failure(ctx, "detaching machine "+machine, err)
	}
	n.log.Info("detached", "machine", machine)
	return nil
}

// detach goes the other way round: the tap first, the record last. The last
// machine leaves the host as the first one found it.
func (n *Network) detach(machine string) error {
	l := n.leases[machine]
	if n.denials.due {
		n.tellCounted(l)
	}
	if err := tap.Delete(l.Link, n.mark(machine)); err != nil {
		return err
	}
	if err := tap.Flush(l.Addr); err != nil {
		n.log.Warn("connections of a guest are left", "machine", machine, "error", err)
	}
	if len(n.leases) == 1 {
		if err := n.leave(); err != nil {
			return err
		}
	} else if err := n.table.Drop(n.guest(l)); err != nil {
		return err
	}
	if err := n.records.Remove(machine); err != nil {
		return err
	}
	delete(n.leases, machine)
	delete(n.denials.told, l.Link)
	n.tellGateways()
	return nil
}

// leave takes away what all guests shared.
func (n *Network) leave() error {
	if err := n.closeLinks(); err != nil {
		return err
	}
	if err := n.table.Remove(); err != nil {
		return err
	}
	n.claims.release()
	return nil
}

// List implements Network.
func (n *Network) List(context.Context) ([]netd.Lease, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := []netd.Lease{}
	for _, l := range n.leases {
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b netd.Lease) int { return cmp.Compare(a.Machine, b.Machine) })
	return all, nil
}

// Get implements Network.
func (n *Network) Get(ctx context.Context, machine string) (netd.State, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l, err := n.find(machine)
	if err != nil {
		return netd.State{}, err
	}
	counters, err := n.table.Counters(l.Link)
	if err != nil {
		return netd.State{}, failure(ctx, "reading counters of machine "+machine, err)
	}
	_, ours, err := tap.Names(n.mark(machine))
	if err != nil {
		return netd.State{}, failure(ctx, "looking for the tap of machine "+machine, err)
	}
	s := netd.State{Lease: l, Up: slices.Contains(ours, l.Link), Counters: []netd.Counter{}}
	for _, c := range counters {
		s.Counters = append(s.Counters, netd.Counter(c))
	}
	return s, nil
}
