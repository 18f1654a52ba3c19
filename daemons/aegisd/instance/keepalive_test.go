package instance_test

import (
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
)

func TestALeaseOutlivesAegisdAndEndsByItself(t *testing.T) {
	w, clock := drowsy(t, "pause=10s")
	in, err := w.Keepalive(t.Context(), "web", api.Lease{TTLMS: time.Hour.Milliseconds(), Reason: "a build"})
	if err != nil {
		t.Fatal(err)
	}
	w.restart()
	w.awaitPhase("web", api.PhaseRunning)
	got, err := w.Get(t.Context(), "web")
	if err != nil || !got.LeaseHeld || !got.LeaseExpiresAt.Equal(*in.LeaseExpiresAt) || got.LeaseReason != "a build" {
		t.Fatalf("after a restart: %+v, %v; before %+v", got.Leased, err, in.Leased)
	}
	clock.awaitTimer(t, "the end of the lease", in.LeaseExpiresAt.Equal)
	clock.advance(time.Hour - time.Minute)
	if w.machine("web").Asked() != 0 {
		t.Error("the guest was asked while it is kept awake")
	}
	clock.advance(in.LeaseExpiresAt.Sub(clock.Now()))
	s := w.awaitSleep("the end of the lease", func(s api.Sleep) bool { return len(s.InUse) == 0 && s.NextAt != nil })
	if after := s.NextAt.Sub(*in.LeaseExpiresAt); after != 10*time.Second {
		t.Errorf("it sleeps %v after the lease", after)
	}
	if got, err = w.Get(t.Context(), "web"); err != nil || got.Leased != (api.Leased{}) {
		t.Errorf("after its end: %+v, %v", got.Leased, err)
	}
	w.idle(clock)
	w.awaitPhase("web", api.PhasePaused)
}
