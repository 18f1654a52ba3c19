package instance_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm"
)

// strike has what a test lets happen at a step of the manager.
func (m *machines) strike(step string) error {
	m.mu.Lock()
	trouble, down := m.trouble, m.down
	m.mu.Unlock()
	if down != nil {
		return down
	}
	if trouble != nil {
		return trouble(step)
	}
	return nil
}

// isDead tells that aegisd was killed: none of its calls arrive.
func (m *machines) isDead(err error) bool { return errors.Is(err, errDead) }

// befall sets that.
func (m *machines) befall(trouble func(step string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trouble = trouble
}

func (m *machines) open(id string) (*vmm.Snapshot, error) {
	f, err := os.Open(filepath.Join(m.dir, id))
	if err != nil {
		return nil, api.Errorf(api.NotFound, "snapshot %q is not there", id)
	}
	return &vmm.Snapshot{State: f, Memory: f}, nil
}

// Snapshot has two steps at which it may be struck: before, and when it is whole
// but nobody has heard of it.
func (m *machines) Snapshot(ctx context.Context, id, snapshot string) (vmm.Saved, error) {
	h, err := m.get(id)
	if err == nil {
		err = m.strike("snapshot")
	}
	if err != nil {
		return vmm.Saved{}, err
	}
	if err := ctx.Err(); err != nil {
		return vmm.Saved{}, api.Errorf(api.Unavailable, "given up: %w", err)
	}
	f, err := os.Create(filepath.Join(m.dir, snapshot))
	if err != nil {
		return vmm.Saved{}, err
	}
	defer f.Close()
	if err := h.Machine.Snapshot(ctx, vmm.Snapshot{State: f, Memory: f}); err != nil {
		os.Remove(f.Name())
		return vmm.Saved{}, api.Errorf(api.BadState, "%w", err)
	}
	saved := vmm.Saved{ID: snapshot, Machine: id, Driver: "fake", Version: "1", Accel: "none", Bytes: 3 << 20}
	m.mu.Lock()
	m.saved[snapshot] = saved
	m.mu.Unlock()
	return saved, m.strike("saved")
}

func (m *machines) Snapshots(context.Context) ([]vmm.Saved, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.saved)), m.down
}

func (m *machines) RemoveSnapshot(_ context.Context, id string) error {
	if err := m.strike("forget"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.saved, id)
	select {
	case m.forgot <- struct{}{}:
	default:
	}
	os.Remove(filepath.Join(m.dir, id))
	return nil
}
