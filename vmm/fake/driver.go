// Package fake is a machine driver without machines: a guest played by
// goroutines that speaks the real host-guest contract over socket pairs. It
// makes tests of everything above the driver fast, and plays the misfortunes
// that are hard to bring about with a real machine. It starts no process and
// touches nothing but the descriptors of the plan.
package fake

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/fake/program"
)

// Behaviour is what a machine does besides working. The zero value boots at
// once and works.
type Behaviour struct {
	// FailStart makes Start fail with this error.
	FailStart error
	// Boot delays the doorbell until it is closed.
	Boot <-chan struct{}
	// NeverReady keeps the doorbell silent for ever.
	NeverReady bool
	// DieAtBoot ends the monitor with this detail instead of a boot,
	// PanicAtBoot the guest's kernel with these words.
	DieAtBoot, PanicAtBoot string
	// RefusePause is the error of Pause.
	RefusePause error
}

// Driver starts fake machines. The zero value is ready for use.
type Driver struct {
	saves atomic.Bool

	mu        sync.Mutex // guards the fields below
	frozen    map[string]*guest
	behaviour Behaviour
	programs  map[string]program.Program
	machines  map[string]*Machine
}

var _ vmm.Driver = (*Driver)(nil)

// Behave sets what the machines started from now on do.
func (d *Driver) Behave(b Behaviour) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.behaviour = b
}

// Program adds a program to the machines started from now on, besides
// program.Builtins, which it may replace.
func (d *Driver) Program(name string, p program.Program) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.programs == nil {
		d.programs = program.Builtins()
	}
	d.programs[name] = p
}

// SetSaves says whether its machines can be snapshotted; they cannot at first.
func (d *Driver) SetSaves(saves bool) { d.saves.Store(saves) }

// Machine returns the machine of an id, nil if there was none.
func (d *Driver) Machine(id string) *Machine {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.machines[id]
}

// Name is "fake".
func (d *Driver) Name() string { return "fake" }

// Probe tells that the driver works everywhere.
func (d *Driver) Probe(context.Context) (vmm.Support, error) {
	return vmm.Support{
		Driver: "fake", Version: "1", Accel: "none",
		Note:      "fake machines: programs are played by the daemon itself, for tests only",
		Snapshots: d.saves.Load(), Frames: true,
	}, nil
}

// Start starts a machine with the behaviour set last.
func (d *Driver) Start(_ context.Context, p vmm.Plan) (vmm.Machine, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.behaviour.FailStart != nil:
		return nil, fmt.Errorf("starting fake machine %q: %w", p.ID, d.behaviour.FailStart)
	case p.Restore != nil && !d.saves.Load():
		return nil, fmt.Errorf("restoring fake machine %q: %w", p.ID, vmm.ErrUnsupported)
	}
	programs := d.programs
	if programs == nil {
		programs = program.Builtins()
	}
	m, err := d.newMachine(p, programs)
	if err != nil {
		return nil, err
	}
	if d.machines == nil {
		d.machines = map[string]*Machine{}
	}
	d.machines[p.ID] = m
	m.boot()
	return m, nil
}
