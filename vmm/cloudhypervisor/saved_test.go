package cloudhypervisor

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/xfeldman/aegisvm/vmm"
)

// savedConfig is a part of what Cloud Hypervisor writes.
const savedConfig = `{
	"cpus": {"boot_vcpus": 2},
	"memory": {"size": 0, "zones": [{"id": "memory", "size": 536870912, "file": "/proc/self/fd/99", "shared": true}]},
	"payload": {"kernel": "/proc/self/fd/98", "initramfs": "/proc/self/fd/97", "cmdline": "quiet"},
	"disks": [
		{"id": "image", "path": "/proc/self/fd/96", "readonly": true, "queue_size": 128},
		{"id": "own", "path": "/proc/self/fd/95", "readonly": false}
	],
	"net": [{"id": "net", "fds": [94]}],
	"console": {"file": "/old/console.pipe", "mode": "File"},
	"vsock": {"cid": 3, "socket": "/old/v.sock"},
	"landlock_enable": false, "big": 18446744073709551615
}`

func TestASavedConfigurationGetsTheFilesOfItsNewProcess(t *testing.T) {
	w := wired()
	at, _ := w.inherit()
	raw, err := rewire([]byte(savedConfig), vmm.Plan{MemoryMiB: 512, VCPUs: 2}, w, at)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{
	"cpus": {"boot_vcpus": 2},
	"memory": {"size": 0, "zones": [{"id": "memory", "size": 536870912, "file": "/proc/self/fd/5", "shared": true}]},
	"payload": {"kernel": "/proc/self/fd/3", "initramfs": "/proc/self/fd/4", "cmdline": "quiet"},
	"disks": [
		{"id": "image", "path": "/proc/self/fd/8", "readonly": true, "queue_size": 128},
		{"id": "own", "path": "/proc/self/fd/9", "readonly": false}
	],
	"net": [{"id": "net", "fds": [94]}],
	"console": {"file": "/d/console.pipe", "mode": "File"},
	"vsock": {"cid": 3, "socket": "/d/v.sock"},
	"landlock_enable": true, "landlock_rules": [{"path": "/d/saved", "access": "rw"}], "big": 18446744073709551615
}`
	if diff := cmp.Diff(parsed(t, want), parsed(t, string(raw))); diff != "" {
		t.Error(diff)
	}
}

func parsed(t *testing.T, s string) any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestASavedConfigurationOfAnotherMachineIsRefused(t *testing.T) {
	for want, replace := range map[string][2]string{
		"536870912 bytes, the plan has 1073741824": {},
		`["image" "kit"], the plan has`:            {`"id": "own"`, `"id": "kit"`},
		"2 network devices":                        {`"net": [`, `"net": [{}, `},
		"payload: it has no kernel":                {`"kernel"`, `"firmware"`},
		"vsock: it is not there":                   {`"vsock"`, `"vdpa"`},
		"0 zones, one expected":                    {`"zones"`, `"zone"`},
		"reading the saved configuration":          {`{`, ``},
	} {
		t.Run(want, func(t *testing.T) {
			w := wired()
			at, _ := w.inherit()
			p := vmm.Plan{MemoryMiB: 512, VCPUs: 2}
			if replace[0] == "" {
				p.MemoryMiB = 1024
			}
			_, err := rewire([]byte(strings.Replace(savedConfig, replace[0], replace[1], 1)), p, w, at)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestSavedStateGoesThroughItsFile(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(strings.Repeat("older and longer ", 100)); err != nil {
		t.Fatal(err)
	}
	want := saved{Config: json.RawMessage(`{"a":1}`), State: json.RawMessage(`{"b":18446744073709551615}`)}
	if err := want.store(f); err != nil {
		t.Fatal(err)
	}
	got, err := loadSaved(f)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
	dir := t.TempDir()
	if err := got.lay(dir); err != nil {
		t.Fatal(err)
	}
	got, err = readSaved(dir)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
	for _, broken := range []string{"", `{"config":{}}`, `{"config":{},"state":{`} {
		if err := os.WriteFile(f.Name(), []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := loadSaved(f); err == nil || !strings.Contains(err.Error(), "reading the snapshot") {
			t.Errorf("%q: error %v", broken, err)
		}
	}
}
