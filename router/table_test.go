package router

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
)

func TestTablesAreReadAsWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ports.json")
	port := func(instance string, guest int, p api.Protocol) Port {
		return Port{instance, "web." + instance, api.Expose{GuestPort: guest, Protocol: p}.WithDefaults()}
	}
	want := []entry{
		{port("inst-1", 80, api.ProtocolHTTP), 8080, true},
		{port("inst-1", 80, api.ProtocolUDP), 8080, false},
		{port("inst-2", 80, api.ProtocolTCP), 8081, true},
	}
	if err := writeTable(path, []entry{want[2], want[0], want[1]}); err != nil {
		t.Fatal(err)
	}
	got, err := readTable(path)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
	if all, err := readTable(path + ".none"); err != nil || all != nil {
		t.Errorf("no file: %v (%v)", all, err)
	}
}

// What is taken from a file can be opened, and is written as it was read.
func FuzzTable(f *testing.F) {
	f.Add([]byte(`{"version":1,"ports":[{"instance":"i","bind":"127.0.0.1","guest_port":80,"protocol":"tcp","actual_port":8080,"on":true}]}`))
	f.Add([]byte(`{"version":2}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := parseTable(b)
		if err != nil {
			return
		}
		for _, e := range all {
			if err := e.check(); err != nil || !e.address().IsValid() {
				t.Errorf("%+v was taken (%v)", e, err)
			}
		}
		path := filepath.Join(dir, "ports.json")
		if err := writeTable(path, all); err != nil {
			t.Fatal(err)
		}
		written, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseTable(written); err != nil {
			t.Errorf("%s was read, and not when written: %v", b, err)
		}
	})
}
