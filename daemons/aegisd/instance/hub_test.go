package instance

import (
	"context"
	"testing"

	"github.com/xfeldman/aegisvm/api"
)

func TestSlowReaderIsCutOffAndOthersAreNot(t *testing.T) {
	var h hub
	slow, err := h.subscribe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	quick, err := h.subscribe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 * backlog {
		h.send(api.Event{Type: api.EventPhase})
		if ev := <-quick; ev.Seq != uint64(i+1) || ev.Time.IsZero() {
			t.Fatalf("event %d is %+v", i+1, ev)
		}
	}
	var last uint64
	for ev := range slow {
		if ev.Seq != last+1 {
			t.Fatalf("event %d follows %d", ev.Seq, last)
		}
		last = ev.Seq
	}
	if last != backlog {
		t.Errorf("the slow reader got %d events, want %d and the end", last, backlog)
	}
}

func TestSubscriptionEndsWithItsContextAndWithTheHub(t *testing.T) {
	var h hub
	ctx, cancel := context.WithCancel(t.Context())
	first, _ := h.subscribe(ctx)
	second, _ := h.subscribe(t.Context())
	cancel()
	for range first { // must end
	}
	h.close()
	for range second { // must end
	}
	h.send(api.Event{})
	if _, err := h.subscribe(t.Context()); api.CodeOf(err) != api.Unavailable {
		t.Errorf("subscribe after the end: %v", err)
	}
}
