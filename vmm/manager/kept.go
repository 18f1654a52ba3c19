package manager

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/xfeldman/aegisvm/api"
)

// kept is what the manager knows of its store: what guests boot from, by
// digest, in guests/, and snapshots.
type kept struct {
	mu      sync.Mutex // guards the fields below, and the removal of guests
	stamp   string     // of the installed files that current is a copy of
	current guest
}

// guest is what a guest boots from.
type guest struct {
	// digest names both files; empty where they are not kept.
	digest, kernel, initramfs string
}

// Names in the store. What begins with unfinished was never whole.
const (
	guestsName    = "guests"
	snapshotsName = "snapshots"
	unfinished    = ".tmp-"
)

func (m *Manager) guestsDir() string    { return filepath.Join(m.config.Keep, guestsName) }
func (m *Manager) snapshotsDir() string { return filepath.Join(m.config.Keep, snapshotsName) }

// openKept makes the store and removes from it what a killed manager has left
// unfinished and what nothing names any more.
func (m *Manager) openKept() error {
	if m.config.Keep == "" {
		return nil
	}
	var err error
	if m.config.Keep, err = filepath.Abs(m.config.Keep); err != nil {
		return fmt.Errorf("finding the store of snapshots: %w", err)
	}
	// The kernels are read by machines' users where there is no jail.
	for dir, mode := range map[string]os.FileMode{m.guestsDir(): 0o755, m.snapshotsDir(): 0o700} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return fmt.Errorf("making the store of snapshots: %w", err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("reading the store of snapshots: %w", err)
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), unfinished) {
				if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
					return fmt.Errorf("removing what was left unfinished: %w", err)
				}
			}
		}
	}
	m.sweepGuests()
	return nil
}

// installed is what new machines boot from. It is kept by its digest from the
// first machine on: the files may be replaced while that runs.
func (m *Manager) installed() (guest, error) {
	kernel, initramfs, err := guestFiles(m.config.Guest)
	if err != nil || m.config.Keep == "" {
		return guest{kernel: kernel, initramfs: initramfs}, err
	}
	m.kept.mu.Lock()
	defer m.kept.mu.Unlock()
	stamp, err := stampOf(kernel, initramfs)
	if err == nil && stamp != m.kept.stamp {
		var g guest
		if g, err = m.keepGuest(kernel, initramfs); err == nil {
			m.kept.stamp, m.kept.current = stamp, g
		}
	}
	if err != nil {
		return guest{}, api.Errorf(api.Internal, "keeping the guest's kernel: %w", err)
	}
	return m.kept.current, nil
}

// stampOf tells files from those that take their place.
func stampOf(paths ...string) (stamp string, err error) {
	for _, path := range paths {
		fi, err := os.Stat(path)
		if err != nil {
			return "", err
		}
		stamp += fmt.Sprintf("%s %d %d ", path, fi.Size(), fi.ModTime().UnixNano())
		if st, ok := fi.Sys().(*syscall.Stat_t); ok {
			stamp += fmt.Sprintf("%d %d ", st.Dev, st.Ino)
		}
	}
	return stamp, nil
}

// guestOf is a guest of the store.
func (m *Manager) guestOf(digest string) guest {
	dir := filepath.Join(m.guestsDir(), digest)
	return guest{digest, filepath.Join(dir, "kernel"), filepath.Join(dir, "initramfs.cpio")}
}

// keepGuest copies two files to the store, whole or not at all.
func (m *Manager) keepGuest(kernel, initramfs string) (guest, error) {
	dir, err := os.MkdirTemp(m.guestsDir(), unfinished)
	if err != nil {
		return guest{}, err
	}
	defer os.RemoveAll(dir) // what was not renamed
	if err := os.Chmod(dir, 0o755); err != nil {
		return guest{}, err
	}
	both := sha256.New()
	for _, f := range [][2]string{{"kernel", kernel}, {"initramfs.cpio", initramfs}} {
		sum, err := keepFile(filepath.Join(dir, f[0]), f[1])
		if err != nil {
			return guest{}, err
		}
		both.Write(sum)
	}
	g := m.guestOf(hex.EncodeToString(both.Sum(nil)))
	if exists(g.kernel) {
		return g, nil
	}
	if err := os.Rename(dir, filepath.Dir(g.kernel)); err != nil {
		return guest{}, err
	}
	return g, syncDir(m.guestsDir())
}

// keepFile copies a file to the disk and tells its digest.
func keepFile(to, from string) (sum []byte, err error) {
	in, err := os.Open(from)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(out, h), in); err != nil {
		return nil, err
	}
	return h.Sum(nil), out.Sync()
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// sweepGuests removes what no machine and no snapshot has booted from, nor new
// ones do. What resists is tried again later.
func (m *Manager) sweepGuests() {
	m.kept.mu.Lock()
	defer m.kept.mu.Unlock()
	all, err := m.saved()
	if err != nil {
		m.config.Log.Warn("looking for kernels that nobody needs", "err", err)
		return
	}
	needed := map[string]bool{m.kept.current.digest: true}
	for _, s := range all {
		needed[s.Guest] = true
	}
	m.mu.Lock()
	for _, x := range m.machines {
		needed[x.guest] = true
	}
	m.mu.Unlock()
	entries, _ := os.ReadDir(m.guestsDir())
	for _, e := range entries {
		if !needed[e.Name()] {
			m.config.Log.Info("removing a kernel that nobody needs", "digest", e.Name(), "err", os.RemoveAll(filepath.Join(m.guestsDir(), e.Name())))
		}
	}
}
