package instance_test

import (
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/netd"
)

func TestWhatAGuestIsDeniedIsAnEvent(t *testing.T) {
	w := newWorld(t)
	w.create(api.InstanceSpec{Command: []string{"sleep"}, Handle: "web"})
	in := w.awaitPhase("web", api.PhaseRunning)
	for _, when := range []string{"at first", "after a restart of aegisd"} {
		events, err := w.Events(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w.networks.denials <- netd.Denial{Machine: "m-nobody", Packets: map[string]uint64{"host": 1}}
		w.networks.denials <- netd.Denial{Machine: in.Machine, Packets: map[string]uint64{"private": 3, "new": 1}}
		var got []api.Event
		for late := time.After(10 * time.Second); len(got) < 2; {
			select {
			case ev := <-events:
				if ev.Type == api.EventDenied {
					got = append(got, ev)
				}
			case <-late:
				t.Fatalf("%s only %+v was told", when, got)
			}
		}
		for i, want := range []api.Event{
			{Reason: "new", Packets: 1, Message: "1 denied: new"},
			{Reason: "private", Packets: 3, Message: "3 denied: a private network that no rule names"},
		} {
			want.Seq, want.Time, want.Type, want.Instance, want.Handle, want.Phase = got[i].Seq, got[i].Time, api.EventDenied, in.ID, "web", api.PhaseRunning
			if got[i] != want {
				t.Errorf("%s: %+v, expected %+v", when, got[i], want)
			}
		}
		w.restart()
		w.awaitPhase("web", api.PhaseRunning)
	}
}
