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

// LoadModules loads the modules of the initramfs and frees their memory.
func LoadModules() error {
	order, err := os.ReadFile(filepath.Join(modules, "order"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("loading modules: %w", err)
	}
	for name := range strings.FieldsSeq(string(order)) {
		if err := load(filepath.Join(modules, name)); err != nil {
			return fmt.Errorf("loading module %s: %w", name, err)
		}
	}
	return os.RemoveAll(modules)
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
