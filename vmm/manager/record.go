package manager

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	"github.com/xfeldman/aegisvm/vmm"
)

// Names in a machine's directory beside the worker's.
const (
	specName     = "spec.json"
	startingName = "starting"
	consoleName  = "console.log"
	logName      = "worker.log"
	workerName   = "worker.pid"
	runName      = "run"
)

// record is spec.json: what does not change in a machine's life.
type record struct {
	ID        string `json:"id"`
	Driver    string `json:"driver"`
	Accel     string `json:"accel"`
	MemoryMiB int    `json:"memory_mib"`
	VCPUs     int    `json:"vcpus"`
	UID       uint32 `json:"uid,omitempty"`
	// Version is the monitor's, Guest the digest of what the machine booted
	// from, Disks are the roles of its disks; empty in records of before.
	Version string     `json:"version,omitempty"`
	Guest   string     `json:"guest,omitempty"`
	Disks   []vmm.Role `json:"disks,omitempty"`
	// Stack names the network that is in the machine's worker; empty where
	// there is none.
	Stack   string    `json:"stack,omitempty"`
	Started time.Time `json:"started"`
}

func writeRecord(dir string, r record) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", specName, err)
	}
	if err := renameio.WriteFile(filepath.Join(dir, specName), append(raw, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing %s: %w", specName, err)
	}
	return nil
}

func readRecord(dir string) (record, error) {
	raw, err := os.ReadFile(filepath.Join(dir, specName))
	if err != nil {
		return record{}, err
	}
	var r record
	if err := json.Unmarshal(raw, &r); err != nil {
		return record{}, fmt.Errorf("reading %s: %w", filepath.Join(dir, specName), err)
	}
	if r.ID != filepath.Base(dir) {
		return record{}, fmt.Errorf("reading %s: it is of machine %q", filepath.Join(dir, specName), r.ID)
	}
	return r, nil
}
