package testbed

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// SetResolver has the host ask one resolver from now on. The first call comes
// before aegisd is started.
func (h *Host) SetResolver(t testing.TB, addr string) {
	t.Helper()
	file := filepath.Join(h.Root, "etc/resolv.conf")
	if h.Name == "standalone" { // whose host is this machine
		file = filepath.Join(h.Home, "resolv.conf")
		if setting := "AEGIS_RESOLV_CONF=" + file; !slices.Contains(h.env, setting) {
			h.env = append(h.env, setting)
		}
	}
	err := os.WriteFile(file+".new", []byte("nameserver "+addr+"\n"), 0o644)
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		t.Fatal(err)
	}
}
