package qemu

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/xfeldman/aegisvm/vmm"
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

func TestASnapshotThatWasGivenUpIsOverBeforeTheMachineGoesOn(t *testing.T) {
	m, s := acted(t)
	m.migration = make(chan string, 32)
	m.paused.Store(true)
	state, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	ctx, cancel := context.WithCancel(t.Context())
	given := make(chan error, 1)
	go func() { given <- m.Snapshot(ctx, vmm.Snapshot{State: state}) }()
	answer := func(want string) {
		t.Helper()
		name, id := s.command(t)
		if name != want {
			t.Fatalf("the command is %q, want %q", name, want)
		}
		s.say(`{"return": {}, "id": %q}`, id)
	}
	answer("migrate-set-capabilities")
	answer("getfd")
	name, id := s.command(t)
	if name != "migrate" {
		t.Fatalf("the command is %q", name)
	}
	cancel() // before QEMU has said that it began
	s.say(`{"return": {}, "id": %q}`, id)
	answer("migrate_cancel")
	select {
	case err := <-given:
		t.Fatalf("given up while QEMU still saves: %v", err)
	default:
	}
	m.event("MIGRATION", []byte(`{"status": "cancelled"}`))
	if err := <-given; !errors.Is(err, context.Canceled) {
		t.Fatalf("snapshot: %v", err)
	}
	resumed := make(chan error, 1)
	go func() { resumed <- m.Resume(t.Context()) }()
	_, id = s.command(t)
	s.say(`{"error": {"class": "GenericError", "desc": "Migration is not finalized yet"}, "id": %q}`, id)
	answer("cont")
	if err := <-resumed; err != nil {
		t.Errorf("resume: %v", err)
	}
}
