package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
)

// openedName is the record of the host's links that forward because of us.
const openedName = ".opened"

func (n *Network) writeOpened(links []string) error {
	file := filepath.Join(n.options.Dir, openedName)
	if len(links) == 0 {
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("forgetting opened links: %w", err)
		}
		return nil
	}
	if err := renameio.WriteFile(file, []byte(strings.Join(links, "\n")), 0o600); err != nil {
		return fmt.Errorf("keeping opened links: %w", err)
	}
	return nil
}

func (n *Network) readOpened() ([]string, error) {
	raw, err := os.ReadFile(filepath.Join(n.options.Dir, openedName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("reading opened links: %w", err)
	}
	return strings.Fields(string(raw)), nil
}
