package user

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/xfeldman/aegisvm/netd"
	"github.com/xfeldman/aegisvm/netd/lease"
	"github.com/xfeldman/aegisvm/netd/policy"
)

// machine is the network of one machine, with or without a stack that asks.
type machine struct {
	network  *Network
	counters *counters

	mu     sync.Mutex // guards the fields below
	given  netd.Lease
	pins   pins
	flows  map[*flow]struct{}
	stack  *line // who asks now; nil when nobody does
	closed bool

	denials denials
}

// Files of a machine beside its record.
const (
	countersSuffix = ".counters"
	pinsSuffix     = ".pins"
)

func (n *Network) newMachine(l netd.Lease) (*machine, error) {
	c, err := openCounters(n.file(l.Machine, countersSuffix))
	if err != nil {
		return nil, err
	}
	m := &machine{network: n, counters: c, given: l, pins: pins{}, flows: map[*flow]struct{}{}}
	raw, err := os.ReadFile(n.file(l.Machine, pinsSuffix))
	if err == nil {
		err = json.Unmarshal(raw, &m.pins)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		n.log.Warn("names of a guest are closed until it asks for them again", "machine", l.Machine, "error", err)
		m.pins = pins{}
	}
	return m, nil
}

func (m *machine) lease() netd.Lease {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.given
}

// close ends what hangs on the machine.
func (m *machine) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.tellDenials()
	if m.stack != nil {
		m.stack.conn.Close()
	}
	for f := range m.flows {
		f.close()
	}
}

// forget removes the files, the record last.
func (m *machine) forget(records lease.Records) error {
	id := m.lease().Machine
	for _, suffix := range []string{countersSuffix, pinsSuffix} {
		if err := os.Remove(m.network.file(id, suffix)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return records.Remove(id)
}

// setPolicy keeps the policy, ends flows that it does not allow and has the
// stack ask again for its connections.
func (m *machine) setPolicy(p policy.Policy, records lease.Records) error {
	m.mu.Lock()
	after := m.given
	after.Policy = p
	err := records.Write(after)
	if err == nil {
		m.given = after
		m.pins.keep(p)
		err = m.writePins()
		for f := range m.flows {
			if m.decide(f.packet, true) != policy.Allowed {
				f.close()
			}
		}
	}
	stack := m.stack
	m.mu.Unlock()
	if err == nil && stack != nil {
		stack.recheck()
	}
	return err
}

// pin opens the addresses of a name, as far as the policy names it.
func (m *machine) pin(name string, addrs []netip.Addr, ttl time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.given.Policy.Pins(name, addrs)
	if len(all) == 0 {
		return nil
	}
	m.pins.add(name, all, time.Now().Add(policy.PinTime(ttl)))
	return m.writePins()
}

// writePins keeps the pins for the next process, not for the next boot: it
// does not wait for the disk.
func (m *machine) writePins() error {
	raw, err := json.Marshal(m.pins)
	if err != nil {
		return err
	}
	path := m.network.file(m.given.Machine, pinsSuffix)
	fresh := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.WriteFile(fresh, raw, 0o600); err != nil {
		return err
	}
	return os.Rename(fresh, path)
}

// decide tells what a packet is counted as; the caller holds mu. What is open
// already is held against names without a look at the clock: a connection
// keeps its name open.
func (m *machine) decide(k policy.Packet, open bool) string {
	now := time.Now()
	if open {
		now = time.Time{}
	}
	return m.given.Policy.Decide(k, policy.Site{
		Gateway: m.given.Gateway, Pools: m.network.options.Pools, DNS: m.network.options.DNS, Local: isLocal,
		Pinned: func(addr netip.Addr, port uint16) bool { return m.pins.open(addr, port, now) },
	})
}

// state is what is known of the machine, with what its stack has counted if
// that answers.
func (m *machine) state(ctx context.Context) netd.State {
	m.mu.Lock()
	s := netd.State{Lease: m.given, Up: m.stack != nil}
	stack := m.stack
	m.mu.Unlock()
	counted := m.counters.list()
	if stack == nil {
		s.Counters = counted
		return s
	}
	theirs := stack.counters(ctx)
	for _, name := range policy.WireCounters {
		s.Counters = append(s.Counters, named(theirs, name))
	}
	for _, c := range counted {
		more := named(theirs, c.Name)
		s.Counters = append(s.Counters, netd.Counter{Name: c.Name, Packets: c.Packets + more.Packets, Bytes: c.Bytes + more.Bytes})
	}
	return s
}

// named is the counter of a name, with nothing counted where there is none.
func named(all []netd.Counter, name string) netd.Counter {
	if i := slices.IndexFunc(all, func(c netd.Counter) bool { return c.Name == name }); i >= 0 {
		return all[i]
	}
	return netd.Counter{Name: name}
}
