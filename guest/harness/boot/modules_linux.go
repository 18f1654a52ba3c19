package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// modules is where the archive of a distribution kernel has its modules and
// the order to load them in. Our own kernel has none.
const modules = "/lib/modules/aegis"

// later is the folder with those that not every guest needs, and their order.
const later = modules + "/later"

// LoadModules loads the modules of the initramfs and frees their memory, but
// for those that may be loaded later.
func LoadModules() (*Later, error) {
	if err := loadAll(modules); err != nil {
		return nil, err
	}
	l := &Later{}
	dir, err := os.Open(later)
	if err == nil {
		l.dir = dir
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("keeping modules: %w", err)
	}
	return l, nil
}

// Later are modules that are loaded when something needs them. They are
// reached through their folder: its path is gone with the initramfs.
type Later struct{ dir *os.File }

// Load loads them, once.
func (l *Later) Load() error {
	if l.dir == nil {
		return nil
	}
	if err := loadAll(fmt.Sprintf("/proc/self/fd/%d", l.dir.Fd())); err != nil {
		return err
	}
	l.dir.Close()
	l.dir = nil
	return nil
}

// loadAll loads the modules in a folder, if it has any, and removes them.
func loadAll(dir string) error {
	order, err := os.ReadFile(filepath.Join(dir, "order"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("loading modules: %w", err)
	}
	for name := range strings.FieldsSeq(string(order)) {
		path := filepath.Join(dir, name)
		err := load(path)
		if err == nil {
			err = os.Remove(path)
		}
		if err != nil {
			return fmt.Errorf("loading module %s: %w", name, err)
		}
	}
	return os.Remove(filepath.Join(dir, "order"))
}

func load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.FinitModule(int(f.Fd()), "", 0)
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENODEV) {
		return nil // it is there already, or its device is not
	}
	return err
}
