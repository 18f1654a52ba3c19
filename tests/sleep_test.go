package tests

import (
	"strings"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/tests/testbed"
)

// sleeps waits until an instance is told to have been put to sleep, or woken.
func (h *history) sleeps(kind string) api.Event {
	h.t.Helper()
	return h.await(func(ev api.Event) bool {
		if ev.Type == api.EventPhase && ev.Phase == api.PhaseFailed {
			h.t.Fatalf("waiting for %s: it failed: %s", kind, ev.Message)
		}
		return ev.Type == kind
	})
}

func TestAnIdleInstanceIsPausedAndABusyOneIsNot(t *testing.T) {
	onEveryHost(t, func(t *testing.T, h *testbed.Host) {
		told := follow(t, h)
		must(t, h, "", "instance", "start", "--name", "busy", "--idle", "pause=2s", "--", "sh", "-c", "while :; do :; done")
		must(t, h, "", "instance", "start", "--name", "web", "--restart", "on-demand", "--idle", "pause=2s", "--expose", "7000/tcp", "--", "python3", "-c", shouter)
		if ev := told.sleeps(api.EventPaused); ev.Handle != "web" || !strings.HasPrefix(ev.Message, "nobody used it for 2s (") {
			t.Errorf("put to sleep: %+v", ev)
		}
		wantShout(t, h, info(t, h).Endpoints[0], "asleep")
		if ev := told.sleeps(api.EventWoken); ev.Handle != "web" || !strings.HasPrefix(ev.Message, "a connection (") {
			t.Errorf("woken: %+v", ev)
		}
		told.sleeps(api.EventPaused)
		must(t, h, "", "exec", "web", "--", "true")
		told.sleeps(api.EventWoken)
		if why := must(t, h, "", "why", "busy"); !strings.Contains(why, "busy is running") || !strings.Contains(why, "does not sleep: its guest was at work: programs used ") {
			t.Errorf("why: %s", why)
		}
		must(t, h, "", "instance", "start", "--name", "bounded", "--idle", "pause=1s,budget=3s", "--", "sh", "-c", "while :; do :; done")
		told.await(func(ev api.Event) bool {
			return ev.Handle == "bounded" && ev.Type == api.EventPaused && strings.HasPrefix(ev.Message, "nobody but its own programs used it for ")
		})
	})
}
