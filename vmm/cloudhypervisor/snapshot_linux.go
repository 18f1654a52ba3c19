package cloudhypervisor

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/monitor"
)

// errRuns refuses a snapshot.
var errRuns = errors.New("the machine runs: pause it first")

// Pause stops the virtual processors.
func (m *machine) Pause(ctx context.Context) error {
	return m.act(ctx, "pausing", func(context.Context) error { return m.turn("vm.pause", true) })
}

// Resume lets them go on.
func (m *machine) Resume(ctx context.Context) error {
	return m.act(ctx, "resuming", func(context.Context) error { return m.turn("vm.resume", false) })
}

// turn asks for a state unless it is there: Cloud Hypervisor refuses that.
// Only the machine's end ends it.
func (m *machine) turn(action string, paused bool) error {
	if m.paused == paused {
		return nil
	}
	err := m.control.put(context.Background(), action, nil)
	if err == nil {
		m.paused = paused
	}
	return err
}

// Snapshot has Cloud Hypervisor write its state beside the machine, and copies
// that to s.State and the guest's memory to s.Memory.
func (m *machine) Snapshot(ctx context.Context, s vmm.Snapshot) error {
	return m.act(ctx, "snapshotting", func(ctx context.Context) error {
		if !m.paused {
			return errRuns
		}
		if err := m.save(s); err != nil {
			return err
		}
		return monitor.CopySparse(ctx, s.Memory, m.wires.memory)
	})
}

// save writes all but the memory.
func (m *machine) save(s vmm.Snapshot) error {
	dir := m.wires.theirs.saved
	if err := freshDir(dir); err != nil {
		return err
	}
	if err := m.control.put(context.Background(), "vm.snapshot", map[string]string{"destination_url": fileURL(dir)}); err != nil {
		return err
	}
	state, err := readSaved(dir)
	if err != nil {
		return err
	}
	return errors.Join(state.store(s.State), freshDir(dir))
}

// act runs f while nobody else acts on the machine. Who gives up learns so at
// once, but the next waits until f is over: what was asked for cannot be taken
// back, and must not overtake what is asked for later.
func (m *machine) act(ctx context.Context, what string, f func(context.Context) error) error {
	err := m.alone(ctx, f)
	if err == nil {
		return nil
	}
	if ctx.Err() == nil {
		err = m.orEnded(ctx, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

func (m *machine) alone(ctx context.Context, f func(context.Context) error) error {
	if err := errors.Join(m.alive(), ctx.Err()); err != nil {
		return err
	}
	select {
	case <-m.acting:
	case <-m.done:
		return vmm.ErrEnded
	case <-ctx.Done():
		return ctx.Err()
	}
	result := make(chan error, 1)
	go func() { // ends with the machine at the latest
		err := f(ctx)
		m.acting <- struct{}{}
		result <- err
	}()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// orEnded turns what a dying monitor does to a call into ErrEnded.
func (m *machine) orEnded(ctx context.Context, err error) error {
	if gone := new(*url.Error); !errors.As(err, gone) {
		return err
	}
	select {
	case <-m.done:
		return vmm.ErrEnded
	case <-ctx.Done():
		return err
	}
}
