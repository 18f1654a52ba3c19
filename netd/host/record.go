package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/xfeldman/aegisvm/netd"
)

// machinePattern is what the id of a machine may be; it is the name of a file
// and part of a link's mark.
var machinePattern = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// records are the leases on disk, one file each, in the order in which they
// must be believed: before anything of a lease is in the kernel, and until
// nothing of it is.
type records struct{ dir string }

const recordSuffix = ".json"

func (r records) path(machine string) string { return filepath.Join(r.dir, machine+recordSuffix) }

func (r records) write(l netd.Lease) error {
	raw, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("encoding the lease of machine %s: %w", l.Machine, err)
	}
	if err := renameio.WriteFile(r.path(l.Machine), append(raw, '\n'), 0o600); err != nil {
		return fmt.Errorf("keeping the lease of machine %s: %w", l.Machine, err)
	}
	return nil
}

func (r records) remove(machine string) error {
	if err := os.Remove(r.path(machine)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("forgetting the lease of machine %s: %w", machine, err)
	}
	return nil
}

// read reads all leases. One that cannot be read is told and left: what it
// was of is removed as an orphan.
func (r records) read(bad func(file string, err error)) (map[string]netd.Lease, error) {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return nil, fmt.Errorf("folder of leases: %w", err)
	}
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, fmt.Errorf("reading leases: %w", err)
	}
	all := map[string]netd.Lease{}
	for _, e := range entries {
		machine, ok := strings.CutSuffix(e.Name(), recordSuffix)
		if !ok || !machinePattern.MatchString(machine) {
			continue // unfinished, or none of ours
		}
		l, err := r.readOne(machine)
		if err != nil {
			bad(e.Name(), err)
			continue
		}
		all[machine] = l
	}
	return all, nil
}

func (r records) readOne(machine string) (l netd.Lease, err error) {
	raw, err := os.ReadFile(r.path(machine))
	if err == nil {
		err = json.Unmarshal(raw, &l)
	}
	if err == nil && (l.Machine != machine || !l.Addr.Is4() || !l.Gateway.Is4() || l.Link == "") {
		err = errors.New("it is not the lease of this machine")
	}
	return l, err
}

// openedName is the record of the host's links that forward because of us.
const openedName = ".opened"

func (r records) writeOpened(links []string) error {
	file := filepath.Join(r.dir, openedName)
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

func (r records) readOpened() ([]string, error) {
	raw, err := os.ReadFile(filepath.Join(r.dir, openedName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("reading opened links: %w", err)
	}
	return strings.Fields(string(raw)), nil
}
