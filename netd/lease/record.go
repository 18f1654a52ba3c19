// Package lease keeps what netd.Networks give to machines: the choice of an
// address, and one small record per machine, from which whoever comes after a
// process that was killed goes on. It touches no network.
package lease

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/netd"
)

// machinePattern is what the id of a machine may be; it is the name of a file
// and part of a link's mark.
var machinePattern = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// CheckMachine refuses what is no machine's id.
func CheckMachine(id string) error {
	if !machinePattern.MatchString(id) {
		return api.Errorf(api.InvalidArgument, "machine %.40q: expected 1 to 32 of a-z, 0-9 and -", id)
	}
	return nil
}

// Records are the leases on disk, one file each, in the order in which they
// must be believed: before anything of a lease is in the kernel, and until
// nothing of it is.
type Records struct{ Dir string }

const recordSuffix = ".json"

func (r Records) path(machine string) string { return filepath.Join(r.Dir, machine+recordSuffix) }

// Write keeps a lease, new or changed.
func (r Records) Write(l netd.Lease) error {
	raw, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("encoding the lease of machine %s: %w", l.Machine, err)
	}
	if err := renameio.WriteFile(r.path(l.Machine), append(raw, '\n'), 0o600); err != nil {
		return fmt.Errorf("keeping the lease of machine %s: %w", l.Machine, err)
	}
	return nil
}

// Remove forgets a lease; none is no error.
func (r Records) Remove(machine string) error {
	if err := os.Remove(r.path(machine)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("forgetting the lease of machine %s: %w", machine, err)
	}
	return nil
}

// Read reads all leases. One that cannot be read is told and left: what it
// was of is removed as an orphan.
func (r Records) Read(bad func(file string, err error)) (map[string]netd.Lease, error) {
	if err := os.MkdirAll(r.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("folder of leases: %w", err)
	}
	entries, err := os.ReadDir(r.Dir)
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

func (r Records) readOne(machine string) (l netd.Lease, err error) {
	raw, err := os.ReadFile(r.path(machine))
	if err == nil {
		err = json.Unmarshal(raw, &l)
	}
	if err == nil && (l.Machine != machine || !l.Addr.Is4() || !l.Gateway.Is4()) {
		err = errors.New("it is not the lease of this machine")
	}
	return l, err
}
