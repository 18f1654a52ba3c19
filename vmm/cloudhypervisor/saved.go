package cloudhypervisor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/xfeldman/aegisvm/vmm"
)

// Names in a directory that Cloud Hypervisor saves to.
const (
	configName = "config.json"
	stateName  = "state.json"
)

// maxSaved bounds what is read of a saved machine, without its memory.
const maxSaved = 64 << 20

// saved is a machine on disk, without its memory: how it was configured, and
// the state of its devices, which is Cloud Hypervisor's business.
type saved struct {
	Config json.RawMessage `json:"config"`
	State  json.RawMessage `json:"state"`
}

// readSaved takes what Cloud Hypervisor has written.
func readSaved(dir string) (s saved, err error) {
	if s.Config, err = readBounded(filepath.Join(dir, configName)); err == nil {
		s.State, err = readBounded(filepath.Join(dir, stateName))
	}
	return s, err
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSaved+1))
	if err == nil && len(b) > maxSaved {
		err = fmt.Errorf("%s has more than %d bytes", filepath.Base(path), maxSaved)
	}
	return b, err
}

// store replaces the content of f.
func (s saved) store(f *os.File) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	return err
}

// loadSaved reads what store wrote.
func loadSaved(f *os.File) (s saved, err error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return s, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSaved))
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err == nil && (s.Config == nil || s.State == nil) {
		err = errors.New("it has no configuration or no state")
	}
	if err != nil {
		return s, fmt.Errorf("reading the snapshot: %w", err)
	}
	return s, nil
}

// lay writes it where Cloud Hypervisor looks for it.
func (s saved) lay(dir string) error {
	if err := os.WriteFile(filepath.Join(dir, configName), s.Config, 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, stateName), s.State, 0o600)
}

// component is a part of a saved state.
type component struct {
	Snapshots map[string]component `json:"snapshots"`
	Data      *struct {
		State string `json:"state"`
	} `json:"snapshot_data"`
}

// streams are those that were open, which the guest will take for open until it
// is told.
func (s saved) streams() ([]stream, error) {
	var c component
	if err := json.Unmarshal(s.State, &c); err != nil {
		return nil, fmt.Errorf("reading the saved state: %w", err)
	}
	vsock := c.find(vsockID)
	if vsock == nil || vsock.Data == nil {
		return nil, errors.New("the saved state has no " + vsockID)
	}
	var state struct {
		Connections [][2]uint32 `json:"connections"`
	}
	if err := json.Unmarshal([]byte(vsock.Data.State), &state); err != nil {
		return nil, fmt.Errorf("reading the saved state of %s: %w", vsockID, err)
	}
	var all []stream
	for _, ports := range state.Connections {
		all = append(all, stream{ports[0], ports[1]})
	}
	return all, nil
}

// find looks for a component by its name.
func (c component) find(name string) *component {
	if found, ok := c.Snapshots[name]; ok {
		return &found
	}
	for _, part := range c.Snapshots {
		if found := part.find(name); found != nil {
			return found
		}
	}
	return nil
}

// object is a part of a configuration, of which we know some fields.
type object = map[string]any

// rewire gives a saved configuration the files of another process. What it
// says of the machine stays, and must be what the plan says.
func rewire(config []byte, p vmm.Plan, w wiring, at places) ([]byte, error) {
	c := object{}
	in := json.NewDecoder(bytes.NewReader(config))
	in.UseNumber()
	if err := in.Decode(&c); err != nil {
		return nil, fmt.Errorf("reading the saved configuration: %w", err)
	}
	for _, set := range []struct {
		part string
		with object
	}{
		{"payload", object{"kernel": at.kernel, "initramfs": at.initramfs}},
		{"console", object{"file": w.console}},
		{"vsock", object{"socket": w.vsock}},
	} {
		if err := rename(c[set.part], set.with); err != nil {
			return nil, fmt.Errorf("saved configuration: %s: %w", set.part, err)
		}
	}
	if err := rewireMemory(c, p, at); err != nil {
		return nil, fmt.Errorf("saved configuration: memory: %w", err)
	}
	if err := rewireDisks(c, w, at); err != nil {
		return nil, fmt.Errorf("saved configuration: disks: %w", err)
	}
	if nics := list(c["net"]); len(nics) > 1 || (len(nics) == 1) != (w.nic != nil) {
		return nil, fmt.Errorf("saved configuration: %d network devices, the plan has another number", len(nics))
	}
	c["landlock_enable"], c["landlock_rules"] = w.landlock, nil
	if w.landlock {
		c["landlock_rules"] = []object{{"path": w.saved, "access": "rw"}}
	}
	return json.Marshal(c)
}

// rename sets fields that are there.
func rename(part any, fields object) error {
	o, ok := part.(object)
	if !ok {
		return errors.New("it is not there")
	}
	for name, value := range fields {
		if _, ok := o[name].(string); !ok {
			return fmt.Errorf("it has no %s", name)
		}
		o[name] = value
	}
	return nil
}

func rewireMemory(c object, p vmm.Plan, at places) error {
	memory, _ := c["memory"].(object)
	zones := list(memory["zones"])
	if len(zones) != 1 {
		return fmt.Errorf("%d zones, one expected", len(zones))
	}
	zone, _ := zones[0].(object)
	if got, want := fmt.Sprint(zone["size"]), fmt.Sprint(int64(p.MemoryMiB)<<20); got != want {
		return fmt.Errorf("%s bytes, the plan has %s", got, want)
	}
	return rename(zone, object{"file": at.memory})
}

// rewireDisks wants the disks of the plan, in their order.
func rewireDisks(c object, w wiring, at places) error {
	var there, wanted []string
	disks := list(c["disks"])
	for _, d := range disks {
		o, _ := d.(object)
		there = append(there, fmt.Sprint(o["id"]))
	}
	for _, d := range w.disks {
		wanted = append(wanted, string(d.Role))
	}
	if !slices.Equal(there, wanted) {
		return fmt.Errorf("%q, the plan has %q", there, wanted)
	}
	for i, d := range disks {
		if err := rename(d, object{"path": at.disks[i]}); err != nil {
			return err
		}
	}
	return nil
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}
