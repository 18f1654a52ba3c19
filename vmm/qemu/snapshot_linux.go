package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/monitor"
)

// errMigration is wrapped when QEMU gave up saving or loading.
var errMigration = errors.New("migration did not succeed")

type capability struct {
	Capability string `json:"capability"`
	State      bool   `json:"state"`
}

type object map[string]any

// enable switches on what both directions of a migration need: the memory
// stays in its file, and events instead of polling.
func (m *machine) enable(ctx context.Context) error {
	return m.qmp.call(ctx, "migrate-set-capabilities", object{"capabilities": []capability{
		{"x-ignore-shared", true}, {"events", true},
	}})
}

// Snapshot writes the paused machine's device state to s.State and its
// memory to s.Memory. The memory of a template's clone is part of the state
// instead, as is that of a machine restored from such a snapshot, and
// s.Memory is left empty.
func (m *machine) Snapshot(ctx context.Context, s vmm.Snapshot) error {
	err := m.act(ctx, func() error {
		if !m.paused.Load() {
			return errors.New("the machine runs: pause it first")
		}
		if err := m.save(ctx, s.State); err != nil {
			return err
		}
		if m.memory == nil {
			return s.Memory.Truncate(0)
		}
		return monitor.CopySparse(ctx, s.Memory, m.memory)
	})
	if err != nil {
		return fmt.Errorf("snapshotting: %w", err)
	}
	return nil
}

// save writes the device state to f.
func (m *machine) save(ctx context.Context, f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	// Whether it was started is known for sure: what nobody stops would stop
	// the processors once more, whenever it gets there.
	if err := m.migrate(ctx, context.WithoutCancel(ctx), f, "migrate"); err != nil {
		return err
	}
	err := m.migrated(ctx)
	if gone := ctx.Err(); gone != nil && errors.Is(err, gone) {
		return errors.Join(err, m.giveUp(context.WithoutCancel(ctx)))
	}
	return err
}

// giveUp ends the migration to a file, and returns when there is none.
func (m *machine) giveUp(ctx context.Context) error {
	if err := m.qmp.call(ctx, "migrate_cancel", nil); err != nil {
		return err
	}
	if err := m.migrated(ctx); err != nil && !errors.Is(err, errMigration) {
		return err
	}
	return nil
}

// load reads the device state from f and leaves the machine paused.
func (m *machine) load(ctx context.Context, f *os.File) error {
	err := m.migrate(ctx, ctx, f, "migrate-incoming")
	if err == nil {
		err = m.migrated(ctx)
	}
	if errors.Is(err, errMigration) {
		select { // QEMU leaves by itself and says why
		case <-m.child.Done():
			err = errors.New(m.child.Death())
		case <-ctx.Done():
		}
	}
	if err != nil {
		return fmt.Errorf("loading the snapshot: %w", err)
	}
	m.paused.Store(true)
	return nil
}

// migrate starts a migration to or from the start of a file, and waits for
// the answer as long as answer says.
func (m *machine) migrate(ctx, answer context.Context, f *os.File, command string) error {
	if err := m.enable(ctx); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := m.qmp.call(ctx, "getfd", object{"fdname": "state"}, f); err != nil {
		return err
	}
	return m.qmp.call(answer, command, object{"uri": "fd:state"})
}

// migrated waits for the end of a migration.
func (m *machine) migrated(ctx context.Context) error {
	for {
		select {
		case status := <-m.migration:
			switch status {
			case "completed":
				return nil
			case "failed", "cancelled":
				return fmt.Errorf("%w: %s", errMigration, status)
			}
		case <-m.qmp.gone:
			return errMonitorGone
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
