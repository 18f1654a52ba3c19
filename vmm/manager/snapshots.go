package manager

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/google/renameio/v2"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm"
)

// Names in the folder of a snapshot.
const (
	stateName  = "state"
	memoryName = "memory"
	savedName  = "snapshot.json" // written last
)

// stateRoom is what the state of devices may take on disk at most, in bytes.
const stateRoom = 64 << 20

// Snapshot writes a paused machine to a new snapshot.
func (m *Manager) Snapshot(ctx context.Context, id, snapshot string) (vmm.Saved, error) {
	if err := m.begin(); err != nil {
		return vmm.Saved{}, err
	}
	defer m.tasks.Done()
	x, err := m.running(id)
	if err == nil {
		err = m.admitSnapshot(x, snapshot)
	}
	if err != nil {
		return vmm.Saved{}, err
	}
	saved, err := x.save(ctx, snapshot)
	if err != nil {
		return vmm.Saved{}, x.failed(ctx, "snapshotting", err)
	}
	m.config.Log.Info("machine saved", "machine", id, "snapshot", snapshot, "bytes", saved.Bytes, "took", time.Since(saved.Taken).Round(time.Millisecond))
	return saved, nil
}

// admitSnapshot refuses what cannot be kept.
func (m *Manager) admitSnapshot(x *machine, snapshot string) error {
	switch i := x.current(); {
	case m.config.Keep == "":
		return api.Errorf(api.BadState, "machine %q cannot be saved: this machine manager keeps nothing", x.id)
	case !idPattern.MatchString(snapshot):
		return api.Errorf(api.InvalidArgument, "snapshot id %q: 1 to 32 characters of a-z, 0-9 and, inside, - expected", snapshot)
	case exists(filepath.Join(m.snapshotsDir(), snapshot)):
		return api.Errorf(api.Exists, "snapshot %q is there already", snapshot)
	case x.guest == "":
		return api.Errorf(api.BadState, "machine %q cannot be saved: an older release started it and has not kept its kernel: start it again", x.id)
	case i.State != vmm.StatePaused:
		return api.Errorf(api.BadState, "machine %q is %s: pause it before it is saved", x.id, i.State)
	default:
		return m.roomFor(int64(i.MemoryMiB)<<20 + stateRoom)
	}
}

// roomFor refuses what the disk might not hold: a guest whose memory is in use
// to the last page is written as it is.
func (m *Manager) roomFor(bytes int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(m.config.Keep, &st); err != nil {
		return api.Errorf(api.Internal, "looking for room in %s: %w", m.config.Keep, os.NewSyscallError("statfs", err))
	}
	if free := int64(st.Bavail) * int64(st.Bsize); free < bytes {
		return api.Errorf(api.LimitExceeded, "a snapshot needs up to %d MiB in %s, where %d are free: make room there", bytes>>20, m.config.Keep, free>>20)
	}
	return nil
}

// save writes a snapshot beside its place and moves it there when it is whole
// and on disk.
func (x *machine) save(ctx context.Context, snapshot string) (saved vmm.Saved, err error) {
	i, dir := x.current(), x.manager.snapshotsDir()
	saved = vmm.Saved{
		ID: snapshot, Machine: x.id, MemoryMiB: i.MemoryMiB, VCPUs: i.VCPUs, Disks: x.disks,
		Driver: i.Driver, Version: x.version, Accel: i.Accel, Guest: x.guest, Frames: x.stack != "", Taken: time.Now().UTC(),
	}
	tmp, err := os.MkdirTemp(dir, unfinished)
	if err != nil {
		return saved, err
	}
	defer os.RemoveAll(tmp) // what was not renamed
	if saved.Bytes, err = x.write(ctx, tmp); err != nil {
		return saved, err
	}
	raw, err := json.Marshal(saved)
	if err != nil {
		return saved, err
	}
	if err := renameio.WriteFile(filepath.Join(tmp, savedName), append(raw, '\n'), 0o600); err != nil {
		return saved, err
	}
	if err := errors.Join(syncDir(tmp), os.Rename(tmp, filepath.Join(dir, snapshot))); err != nil {
		return saved, err
	}
	return saved, syncDir(dir)
}

// write has the worker write both files, and tells what they take.
func (x *machine) write(ctx context.Context, dir string) (bytes int64, err error) {
	var files []*os.File
	for _, name := range []string{stateName, memoryName} {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return 0, err
		}
		defer f.Close()
		files = append(files, f)
	}
	if err := x.client.Snapshot(ctx, vmm.Snapshot{State: files[0], Memory: files[1]}); err != nil {
		return 0, err
	}
	for _, f := range files {
		if err := f.Sync(); err != nil {
			return 0, err
		}
		fi, err := f.Stat()
		if err != nil {
			return 0, err
		}
		if st, ok := fi.Sys().(*syscall.Stat_t); ok {
			bytes += st.Blocks * 512
		}
	}
	return bytes, nil
}

// Snapshots lists the store, the oldest first.
func (m *Manager) Snapshots(context.Context) ([]vmm.Saved, error) {
	all, err := m.saved()
	if err != nil {
		return nil, api.Errorf(api.Internal, "listing snapshots: %w", err)
	}
	return all, nil
}

func (m *Manager) saved() ([]vmm.Saved, error) {
	all := []vmm.Saved{}
	if m.config.Keep == "" {
		return all, nil
	}
	entries, err := os.ReadDir(m.snapshotsDir())
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), unfinished) {
			continue
		}
		s, err := m.readSaved(e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has just gone
		}
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b vmm.Saved) int { return cmp.Or(a.Taken.Compare(b.Taken), cmp.Compare(a.ID, b.ID)) })
	return all, nil
}

func (m *Manager) readSaved(id string) (s vmm.Saved, err error) {
	raw, err := os.ReadFile(filepath.Join(m.snapshotsDir(), id, savedName))
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err == nil && s.ID != id {
		err = fmt.Errorf("it is of snapshot %q", s.ID)
	}
	if err != nil {
		return s, fmt.Errorf("snapshot %q: %w", id, err)
	}
	return s, nil
}

// RemoveSnapshot deletes a snapshot, and its kernel if nothing else needs it.
func (m *Manager) RemoveSnapshot(_ context.Context, id string) error {
	if !idPattern.MatchString(id) || m.config.Keep == "" {
		return nil // there is none
	}
	// It is not half there when we are killed meanwhile.
	tmp := filepath.Join(m.snapshotsDir(), unfinished+"removed-"+id)
	err := os.Rename(filepath.Join(m.snapshotsDir(), id), tmp)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = os.RemoveAll(tmp)
	}
	if err != nil {
		return api.Errorf(api.Internal, "removing snapshot %q: %w", id, err)
	}
	m.sweepGuests()
	return nil
}

// origin is what a machine begins with.
type origin struct {
	guest guest
	// saved is the snapshot that it is restored from; nil for a boot.
	saved *vmm.Saved
}

// origin finds what a machine begins with, and refuses a snapshot that cannot
// become it. One of another version of the monitor is tried.
func (m *Manager) origin(s vmm.Spec, support vmm.Support) (o origin, err error) {
	if s.Restore == "" {
		o.guest, err = m.installed()
		return o, err
	}
	if !idPattern.MatchString(s.Restore) || m.config.Keep == "" {
		return o, api.Errorf(api.NotFound, "snapshot %q is not there", s.Restore)
	}
	saved, err := m.readSaved(s.Restore)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return o, api.Errorf(api.NotFound, "snapshot %q is not there", s.Restore)
	case err != nil:
		return o, api.Errorf(api.Internal, "%w", err)
	}
	o.saved, o.guest = &saved, m.guestOf(saved.Guest)
	return o, m.fits(s, support, o)
}

func (m *Manager) fits(s vmm.Spec, support vmm.Support, o origin) error {
	var roles []vmm.Role
	for _, d := range s.Disks {
		roles = append(roles, d.Role)
	}
	switch saved := o.saved; {
	case saved.Driver != m.config.Driver.Name():
		return api.Errorf(api.BadState, "snapshot %q is of %s, machines here are of %s", saved.ID, saved.Driver, support.Driver)
	case saved.MemoryMiB != s.MemoryMiB || saved.VCPUs != s.VCPUs || !slices.Equal(saved.Disks, roles):
		return api.Errorf(api.InvalidArgument, "snapshot %q has %d MiB, %d processors and disks %v, the machine %d, %d and %v: the same expected",
			saved.ID, saved.MemoryMiB, saved.VCPUs, saved.Disks, s.MemoryMiB, s.VCPUs, roles)
	case saved.Frames && m.config.Stacks == nil:
		return api.Errorf(api.Unavailable, "snapshot %q has its network in its worker, machines here have taps: start aegisd with --network user, as when it was taken", saved.ID)
	case !saved.Frames && s.Network != "" && m.config.Stacks != nil:
		return api.Errorf(api.Unavailable, "snapshot %q has a tap, which cannot be made here: start aegisd with the rights that it had, see aegis doctor", saved.ID)
	case !exists(o.guest.kernel) || !exists(o.guest.initramfs):
		return api.Errorf(api.BadState, "snapshot %q: its kernel %s is not kept any more", saved.ID, saved.Guest)
	}
	return nil
}

// openSnapshot opens both files for a restore.
func (m *Manager) openSnapshot(id string) (state, memory *os.File, err error) {
	dir := filepath.Join(m.snapshotsDir(), id)
	if state, err = os.Open(filepath.Join(dir, stateName)); err != nil {
		return nil, nil, err
	}
	if memory, err = os.Open(filepath.Join(dir, memoryName)); err != nil {
		state.Close()
		return nil, nil, err
	}
	return state, memory, nil
}
