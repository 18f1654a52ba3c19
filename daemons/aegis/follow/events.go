package follow

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/xfeldman/aegisvm/api"
)

// events are events that are followed over broken streams.
type events struct {
	Reader
	tell   func(api.Event) error
	failed bool                    // tell did
	known  map[string]api.Instance // nil before the first stream
}

// Events calls f with all events from now on, until ctx ends, which is no
// error. Where a stream breaks, an EventGap says so, and what is otherwise than
// it was before is told as events of its own, with Seq 0: no last state is
// missed, though states in between may be.
func (r Reader) Events(ctx context.Context, f func(api.Event) error) error {
	e := &events{Reader: r, tell: f}
	for p := r.patience(); ; {
		err := e.read(ctx, p)
		switch {
		case ctx.Err() != nil && !e.failed:
			return nil
		case e.failed || e.known == nil || err != nil && api.CodeOf(err) != api.Unavailable:
			return err
		case err == nil:
			err = errors.New("it ended the stream of events")
		}
		if !p.wait(ctx, err) && ctx.Err() == nil {
			return api.Errorf(api.Unavailable, "aegisd has been away for more than %v: follow again when it is back: %w", p.limit, err)
		}
	}
}

// read reads one stream to its end.
func (e *events) read(ctx context.Context, p *patience) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := e.Aegis.Events(ctx)
	if err != nil {
		return err
	}
	list, err := e.Aegis.List(ctx) // behind the subscription, so that nothing is missed
	if err != nil {
		return err
	}
	p.here()
	if err := e.compare(list); err != nil {
		return err
	}
	for ev := range stream {
		if e.note(ev) {
			if err := e.say(ev); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *events) say(ev api.Event) error {
	err := e.tell(ev)
	e.failed = err != nil
	return err
}

// note takes an event to what is known; false says that it is known already,
// from a list that was newer.
func (e *events) note(ev api.Event) bool {
	in, there := e.known[ev.Instance]
	switch ev.Type {
	case api.EventCreated:
		if !there {
			e.known[ev.Instance] = api.Instance{ID: ev.Instance, Handle: ev.Handle, Phase: ev.Phase}
		}
		return !there
	case api.EventDeleted:
		delete(e.known, ev.Instance)
		return there
	case api.EventPhase:
		if !there || in.Phase == ev.Phase {
			return false
		}
		in.Phase = ev.Phase
		e.known[ev.Instance] = in
	}
	return true
}

// compare tells what a new list has otherwise than what is known.
func (e *events) compare(list []api.Instance) error {
	before := e.known
	e.known = make(map[string]api.Instance, len(list))
	for _, in := range list {
		e.known[in.ID] = in
	}
	if before == nil {
		return nil
	}
	const why = "the stream broke: what is not as it was follows, from the list"
	if err := e.say(api.Event{Time: time.Now().UTC(), Type: api.EventGap, Message: why}); err != nil {
		return err
	}
	for _, ev := range differences(before, e.known) {
		if err := e.say(ev); err != nil {
			return err
		}
	}
	return nil
}

// differences are the events that make one state of the world another.
func differences(before, now map[string]api.Instance) (all []api.Event) {
	add := func(kind string, in api.Instance, message string) {
		all = append(all, api.Event{Time: time.Now().UTC(), Type: kind, Instance: in.ID, Handle: in.Handle, Phase: in.Phase, Message: message})
	}
	for _, id := range slices.Sorted(maps.Keys(before)) {
		if _, there := now[id]; !there {
			add(api.EventDeleted, before[id], "")
		}
	}
	for _, id := range slices.Sorted(maps.Keys(now)) {
		in, was := now[id], before[id]
		if was.ID == "" {
			add(api.EventCreated, in, "")
		}
		if was.Phase != in.Phase {
			add(api.EventPhase, in, in.LastError)
		}
	}
	return all
}
