package aegisbus_test

import (
	"os"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/bus/aegisbus"
	"github.com/xfeldman/aegisvm/bus/bustest"
)

// nobody is a user without groups of ours.
const nobody = 65534

func TestShippedPolicyKeepsStrangersOut(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can own the name and connect as another user")
	}
	address := bustest.StartWithPolicies(t, "../../units/org.aegisvm.Aegis1.conf")
	serve(t, address, newScripted())
	if _, err := aegisbus.NewClient(bustest.Dial(t, address)).List(t.Context()); err != nil {
		t.Errorf("root: %v", err)
	}
	stranger := bustest.DialAs(t, address, nobody)
	if _, err := aegisbus.NewClient(stranger).List(t.Context()); api.CodeOf(err) != api.Denied {
		t.Errorf("stranger lists: %v", err)
	}
	peer := stranger.Object(bus.AegisName, bus.AegisPath, "org.freedesktop.DBus.Introspectable")
	var xml string
	if err := peer.Call(t.Context(), "Introspect", nil, &xml); api.CodeOf(err) != api.Denied {
		t.Errorf("stranger introspects: %v", err)
	}
	if err := stranger.Claim(t.Context(), bus.AegisName); api.CodeOf(err) != api.Denied {
		t.Errorf("stranger claims the name: %v", err)
	}
}
