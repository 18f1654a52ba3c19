package fake

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/xfeldman/aegisvm/vmm"
)

// Nobody can copy a running Go function. So a snapshot of a fake machine is
// the guest itself, put aside under a name that is in the files, and good until
// a machine goes on with it: whoever would restore one that is out of date, as
// the disks would have it with a real one, is told so.

// Snapshot puts the paused guest aside.
func (m *Machine) Snapshot(_ context.Context, s vmm.Snapshot) error {
	switch {
	case m.alive() != nil:
		return fmt.Errorf("snapshotting: %w", vmm.ErrEnded)
	case !m.driver.saves.Load():
		return fmt.Errorf("snapshotting a fake machine: %w", vmm.ErrUnsupported)
	case m.gate.isOpen():
		return errors.New("snapshotting: the machine runs: pause it first")
	}
	id := make([]byte, 8)
	rand.Read(id)
	token := hex.EncodeToString(id)
	if _, err := s.State.WriteAt([]byte(token), 0); err != nil {
		return fmt.Errorf("snapshotting: %w", err)
	}
	m.mu.Lock()
	m.token = token
	m.mu.Unlock()
	m.driver.freeze(token, m.guest)
	return nil
}

func (d *Driver) freeze(token string, g *guest) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.frozen == nil {
		d.frozen = map[string]*guest{}
	}
	d.frozen[token] = g
}

// thaw makes the guest of a snapshot this machine's; the caller holds the
// driver's mu.
func (m *Machine) thaw(s *vmm.Snapshot) error {
	token, err := io.ReadAll(io.NewSectionReader(s.State, 0, 64))
	if err != nil {
		return err
	}
	g := m.driver.frozen[string(token)]
	if g == nil {
		return errors.New("the snapshot is broken, or out of date: its guest has gone on")
	}
	m.gate.open = make(chan struct{})
	m.guest, m.token = g, string(token)
	g.machine.Store(m)
	return nil
}

// goOn makes the snapshot that the guest is in out of date.
func (m *Machine) goOn() {
	m.mu.Lock()
	token := m.token
	m.token = ""
	m.mu.Unlock()
	m.driver.mu.Lock()
	defer m.driver.mu.Unlock()
	delete(m.driver.frozen, token)
}

func (m *Machine) isSaved() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.token != ""
}

// Discard ends the guests that are in snapshots.
func (d *Driver) Discard() {
	d.mu.Lock()
	frozen := d.frozen
	d.frozen = nil
	d.mu.Unlock()
	for _, g := range frozen {
		g.close()
	}
}

// Frozen counts them.
func (d *Driver) Frozen() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.frozen)
}
