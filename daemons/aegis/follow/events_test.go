package follow_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegis/follow"
)

// life is one life of an aegisd: what is there when somebody subscribes, and
// what happens then.
type life struct {
	refused error
	list    []api.Instance
	events  []api.Event
}

type lives struct {
	api.Aegis
	lives []life
	list  []api.Instance
}

func (l *lives) Events(context.Context) (<-chan api.Event, error) {
	if len(l.lives) == 0 {
		return nil, api.Errorf(api.Denied, "no more")
	}
	now := l.lives[0]
	l.lives, l.list = l.lives[1:], now.list
	c := make(chan api.Event, len(now.events))
	for _, ev := range now.events {
		c <- ev
	}
	close(c)
	return c, now.refused
}

func (l *lives) List(context.Context) ([]api.Instance, error) { return l.list, nil }

func phase(id string, p api.Phase) api.Event {
	return api.Event{Seq: 1, Type: api.EventPhase, Instance: id, Phase: p}
}

func TestEventsGoOnAfterARestartOfAegisd(t *testing.T) {
	in := func(id string, p api.Phase) api.Instance { return api.Instance{ID: id, Phase: p} }
	l := &lives{lives: []life{
		{
			list: []api.Instance{in("a", api.PhaseRunning), in("b", api.PhaseRunning), in("d", api.PhaseStarting)},
			events: []api.Event{
				phase("d", api.PhaseStarting), // the list was newer
				phase("d", api.PhaseRunning),
				{Seq: 2, Type: api.EventProgress, Instance: "d", Message: "x"},
			},
		},
		{refused: away},
		{
			list: []api.Instance{in("b", api.PhaseFailed), in("c", api.PhaseRunning), in("d", api.PhaseRunning)},
			events: []api.Event{
				{Seq: 1, Type: api.EventCreated, Instance: "c"}, phase("c", api.PhaseRunning), // told already
				{Seq: 3, Type: api.EventDeleted, Instance: "b"},
			},
		},
	}}
	var got []string
	err := follow.Reader{Aegis: l}.Events(t.Context(), func(ev api.Event) error {
		got = append(got, fmt.Sprint(ev.Seq, ev.Type, " ", ev.Instance, " ", ev.Phase))
		return nil
	})
	want := []string{
		"1phase d running", "2progress d ", "0gap  ",
		"0deleted a running", "0phase b failed", "0created c running", "0phase c running", "3deleted b ",
	}
	if diff := cmp.Diff(want, got); diff != "" || api.CodeOf(err) != api.Denied {
		t.Errorf("%v %s", err, diff)
	}
}

func TestWhatEndsAFollowerOfEvents(t *testing.T) {
	if err := (follow.Reader{Aegis: &lives{lives: []life{{refused: away}}}}).Events(t.Context(), nil); !errors.Is(err, away) {
		t.Errorf("an aegisd that was never there: %v", err)
	}
	full := api.Errorf(api.Unavailable, "no room for the output")
	one := life{list: []api.Instance{{ID: "a"}}, events: []api.Event{phase("a", api.PhaseRunning)}}
	err := follow.Reader{Aegis: &lives{lives: []life{one}}}.Events(t.Context(), func(api.Event) error { return full })
	if !errors.Is(err, full) {
		t.Errorf("a failing callback: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = follow.Reader{Aegis: &lives{lives: []life{one}}}.Events(ctx, func(api.Event) error { cancel(); return nil })
	if err != nil {
		t.Errorf("its context ended: %v", err)
	}
}
