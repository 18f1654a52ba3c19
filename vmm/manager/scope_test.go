package manager

import (
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/xfeldman/aegisvm/bus"
)

func TestAScopesObjectPathTellsItsMachine(t *testing.T) {
	for _, id := range []string{"a", "a-1", "m-0123456789abcdef", "1"} {
		path := systemdPath + "/unit/" + dbus.ObjectPath(bus.Escape(scopeName(id)))
		if got, ok := idOfScope(path); !ok || got != id {
			t.Errorf("%s is machine %q (%t), %q expected", path, got, ok, id)
		}
	}
	for _, other := range []string{"ssh.service", "aegis-vmmd.service", "session-1.scope", "aegis-vm-x.service"} {
		path := systemdPath + "/unit/" + dbus.ObjectPath(bus.Escape(other))
		if id, ok := idOfScope(path); ok {
			t.Errorf("%s is taken for machine %q", path, id)
		}
	}
	if _, ok := idOfScope("/org/freedesktop/systemd1"); ok {
		t.Error("systemd itself is taken for a machine")
	}
}
