package instance_test

import (
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
)

func TestTheLastActivityIsKeptToTenSeconds(t *testing.T) {
	w, clock := timedWorld(t)
	w.create(web())
	began := clock.Now()
	w.awaitPhase("web", api.PhaseRunning)
	for _, c := range []struct{ at, want time.Duration }{
		{0, 0},
		{5 * time.Second, 0},
		{20 * time.Second, 20 * time.Second},
		{29 * time.Second, 20 * time.Second},
	} {
		clock.advance(began.Add(c.at).Sub(clock.Now()))
		if err := w.Signal(t.Context(), "web", 2); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			in, err := w.Get(t.Context(), "web")
			if err != nil || !in.LastActiveAt.Equal(began.Add(c.want)) {
				t.Errorf("used after %v: active %v after its start, %v", c.at, in.LastActiveAt.Sub(began), err)
			}
			w.restart()
		}
	}
}
