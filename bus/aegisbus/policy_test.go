package aegisbus_test

import (
	"os"
	"strings"
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
	if _, err := aegisbus.NewClient(stranger).List(t.Context()); api.CodeOf(err) != api.Denied || !strings.Contains(err.Error(), "member of its group (aegis") {
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

// A command line is nobody else's business: signals tell them.
func TestShippedPolicyKeepsSignalsFromStrangers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can own the name and connect as another user")
	}
	address := bustest.StartWithPolicies(t, "../../units/org.aegisvm.Aegis1.conf")
	aegis := newScripted()
	serve(t, address, aegis)
	events, err := aegisbus.NewClient(bustest.Dial(t, address)).Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stranger := bustest.DialAs(t, address, nobody)
	overheard, err := stranger.Object(bus.AegisName, bus.AegisPath, "org.aegisvm.Aegis1.Manager").Subscribe(t.Context(), "Event")
	if err != nil {
		t.Fatal(err)
	}
	aegis.change(func(in *api.Instance) { in.Phase = api.PhaseRunning }, api.Event{Type: api.EventPhase, Seq: 1})
	if ev := <-events; ev.Type != api.EventPhase {
		t.Fatalf("root heard %+v", ev)
	}
	// What the bus sent the stranger before is there when this is answered.
	if _, err := stranger.HasOwner(t.Context(), bus.AegisName); err != nil {
		t.Fatal(err)
	}
	select {
	case sig := <-overheard.C:
		t.Errorf("a stranger heard %+v", sig)
	default:
	}
}
