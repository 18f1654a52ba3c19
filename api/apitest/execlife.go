package apitest

import (
	"context"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
)

// execTold starts execs and reads of their lives in the events, and of what the
// one without a client printed in the log.
func (s suite) execTold() {
	ref := s.host(api.InstanceSpec{})
	ctx, cancel := context.WithTimeout(s.Context(), 10*time.Second)
	defer cancel()
	events, err := s.Events(ctx)
	if err != nil {
		s.Fatal(err)
	}
	id, _ := s.start(ref, api.ExecSpec{Command: []string{"exit", "3"}, Detach: true})
	s.execEvents(events, ref, id, 3, 0)
	if diff := cmp.Diff([]string{"exec stderr exit 3"}, brief(s.log(ref, api.LogQuery{ExecID: id}))); diff != "" {
		s.Errorf("the log when its end is told: %s", diff)
	}
	for _, e := range s.log(ref, api.LogQuery{Source: api.LogExec}) {
		if e.ExecID != id || e.InstanceID != ref {
			s.Errorf("an entry of exec %q in instance %q: %q", e.ExecID, e.InstanceID, e.Line)
		}
	}
	attached, streams := s.start(ref, api.ExecSpec{Command: []string{"exit", "4"}})
	s.ended(streams)
	streams.Close()
	s.execEvents(events, ref, attached, 4, 0)
	hungUp, streams := s.start(ref, api.ExecSpec{Command: []string{"sleep"}})
	streams.Close()
	s.execEvents(events, ref, hungUp, 129, 1)
	if all := s.log(ref, api.LogQuery{ExecID: attached}); len(all) > 0 {
		s.Errorf("the log of one with a client: %q", brief(all))
	}
}

// execEvents reads events until an exec has ended as it should.
func (s suite) execEvents(events <-chan api.Event, ref, id string, code, signal int) {
	s.Helper()
	var types []string
	for ev := range events {
		if ev.ExecID != id {
			continue
		}
		types = append(types, ev.Type)
		if ev.Instance != ref || ev.Message == "" {
			s.Errorf("odd event: %+v", ev)
		}
		if ev.Type != api.EventExecEnded {
			continue
		}
		if ev.ExitCode == nil || *ev.ExitCode != code || ev.ExitSignal != signal {
			s.Errorf("exec %s ended as %+v, want code %d, signal %d", id, ev, code, signal)
		}
		break
	}
	if want := []string{api.EventExecStarted, api.EventExecEnded}; !slices.Equal(types, want) {
		s.Errorf("of exec %s the events told %q, want %q", id, types, want)
	}
}
