package qemu

import (
	"context"
	"errors"
	"testing"
)

// acted is a machine without a process, whose monitor a test plays.
func acted(t *testing.T) (*machine, *server) {
	t.Helper()
	q, s, _ := connected(t)
	m := &machine{qmp: q, acting: make(chan struct{}, 1), done: make(chan struct{})}
	m.acting <- struct{}{}
	return m, s
}

func TestAPauseThatWasGivenUpIsResumed(t *testing.T) {
	m, s := acted(t)
	ctx, cancel := context.WithCancel(t.Context())
	given := make(chan error, 1)
	go func() { given <- m.Pause(ctx) }()
	if name, _ := s.command(t); name != "stop" {
		t.Fatalf("the first command is %q", name)
	}
	cancel()
	if err := <-given; !errors.Is(err, context.Canceled) {
		t.Fatalf("pause: %v", err)
	}
	resumed := make(chan error, 1)
	go func() { resumed <- m.Resume(t.Context()) }()
	name, id := s.command(t)
	if name != "cont" {
		t.Fatalf("the next command is %q", name)
	}
	s.say(`{"return": {}, "id": %q}`, id)
	if err := <-resumed; err != nil {
		t.Errorf("resume: %v", err)
	}
}

func TestTheMonitorSaysWhetherItIsPaused(t *testing.T) {
	m, _ := acted(t)
	for _, c := range []struct {
		event string
		want  bool
	}{{"STOP", true}, {"MIGRATION", true}, {"RESUME", false}, {"SHUTDOWN", false}, {"STOP", true}} {
		m.event(c.event, nil)
		if got := m.paused.Load(); got != c.want {
			t.Errorf("paused after %s: %t", c.event, got)
		}
	}
}
