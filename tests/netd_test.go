package tests

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/netd/nettest"
	"github.com/xfeldman/aegisvm/tests/testbed"
)

// packetsOf is how many packets of a guest one of its counters has.
func packetsOf(t *testing.T, h *testbed.Host, name, counter string) uint64 {
	t.Helper()
	for _, c := range networkState(t, h, name).Counters {
		if c.Name == counter {
			return c.Packets
		}
	}
	t.Fatalf("there is no counter %q", counter)
	return 0
}

// probe has a guest try some things, and checks that what should work does.
func probe(t *testing.T, h *testbed.Host, name string, state api.NetworkState, tries []try) {
	t.Helper()
	script, err := os.ReadFile("testdata/network.py")
	if err != nil {
		t.Fatal(err)
	}
	asked, _ := json.Marshal(tries)
	got := aegis(t, h, nil, "exec", name, "--", "python3", "-c", string(script), state.Gateway, string(asked), state.Address)
	checkTries(t, got, tries)
}

// systemctl runs it on a host and returns what it says.
func systemctl(t *testing.T, h *testbed.Host, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return finish(ctx, t, h.Command(ctx, append([]string{"systemctl"}, args...)...), nil)
}

// leaveDead makes systemd leave netd dead when it is killed: only a call over the
// bus brings it back.
func leaveDead(t *testing.T, h *testbed.Host) {
	t.Helper()
	dir := filepath.Join(h.Root, "etc/systemd/system/aegis-netd.service.d")
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "dead.conf"), []byte("[Service]\nRestart=no\n"), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := systemctl(t, h, "daemon-reload"); got.code != 0 {
		t.Fatalf("daemon-reload: %+v", got)
	}
}

// followEvents tells events from now on until ctx ends. There must be an instance
// "job".
func followEvents(ctx context.Context, t *testing.T, h *testbed.Host) <-chan api.Event {
	t.Helper()
	heard := make(chan api.Event, 1000)
	go tellEvents(beside(ctx, t, h, "events", "-o", "json").out, heard)
	follows(t, h, heard)
	return heard
}

// awaitDenials waits until events have told all that a guest's counters say it was
// denied.
func awaitDenials(t *testing.T, heard <-chan api.Event, handle string, counters []api.NetworkCounter) {
	t.Helper()
	left := map[string]uint64{}
	for _, c := range counters {
		if c.Name != "allowed" && c.Packets > 0 {
			left[c.Name] = c.Packets
		}
	}
	for ev := range heard {
		if ev.Type != api.EventDenied || ev.Handle != handle {
			continue
		}
		if left[ev.Reason] -= min(left[ev.Reason], ev.Packets); left[ev.Reason] == 0 {
			delete(left, ev.Reason)
		}
		if len(left) == 0 {
			return
		}
	}
	t.Fatalf("events do not tell of %v of %s", left, handle)
}

// awaitDenial waits until an event tells that a guest was denied something.
func awaitDenial(t *testing.T, heard <-chan api.Event, handle, reason string) {
	t.Helper()
	for ev := range heard {
		if ev.Type == api.EventDenied && ev.Handle == handle && ev.Reason == reason {
			if ev.Packets == 0 {
				t.Errorf("an event of no packets: %+v", ev)
			}
			return
		}
	}
	t.Fatalf("no event tells that %s was denied %s", handle, reason)
}

func TestGuestsAreKeptInWhileNetdIsDead(t *testing.T) {
	inAWorld(t, func(t *testing.T, h *testbed.Host) {
		if h.Name != "system" {
			t.Skip("aegisd is netd here")
		}
		startGuests(t, h)
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		heard := followEvents(ctx, t, h)
		web := networkState(t, h, "web")
		private := []try{{"udp", nettest.Elsewhere, 7, false}}
		probe(t, h, "web", web, private)
		awaitDenial(t, heard, "web", "private")
		before := packetsOf(t, h, "web", "private")

		// A question for a name would have routerd call netd.
		tries := slices.DeleteFunc(append(reachable(), unreachable(web.Gateway, networkState(t, h, "job").Address)...),
			func(one try) bool { return one.Addr == web.Gateway && one.Port == nettest.DNSPort })
		leaveDead(t, h)
		killDaemon(t, h, "aegis-netd")
		probe(t, h, "web", web, tries)
		if got := systemctl(t, h, "is-active", "aegis-netd"); got.stdout != "failed\n" {
			t.Fatalf("netd should have been dead, and is %q", got.stdout)
		}

		if after := packetsOf(t, h, "web", "private"); after <= before {
			t.Errorf("%d private packets were counted before netd died, %d after it came back", before, after)
		}
		if got := systemctl(t, h, "is-active", "aegis-netd"); got.stdout != "active\n" {
			t.Errorf("netd was called, and is %q", got.stdout)
		}
		for _, c := range []struct {
			args []string
			code int
		}{{[]string{"--deny-egress"}, 1}, {nil, 0}} {
			if got := aegis(t, h, nil, append([]string{"network", "policy", "web"}, c.args...)...); got.code != 0 {
				t.Fatalf("policy %v: %s", c.args, got.stderr)
			}
			if got := aegis(t, h, nil, "exec", "web", "--", "python3", "-c", fetch); got.code != c.code {
				t.Errorf("with policy %v: exit %d, %q", c.args, got.code, got.stderr)
			}
		}
		awaitDenial(t, heard, "web", "egress")
	})
}
