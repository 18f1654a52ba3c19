package follow_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegis/follow"
)

// waited answers each wait with the next of its answers, or that aegisd is
// away.
type waited struct {
	api.Aegis
	answers []error
	refs    []string
}

var ended = api.Instance{ID: "inst-1", Phase: api.PhaseStopped}

func (w *waited) Get(_ context.Context, ref string) (api.Instance, error) {
	if ref != "web" {
		return api.Instance{}, api.Errorf(api.NotFound, "no instance %q", ref)
	}
	return api.Instance{ID: "inst-1", Phase: api.PhaseRunning}, nil
}

func (w *waited) Wait(_ context.Context, ref string, _ api.Until) (api.Instance, error) {
	w.refs = append(w.refs, ref)
	if len(w.answers) == 0 {
		return api.Instance{}, away
	}
	err := w.answers[0]
	w.answers = w.answers[1:]
	if err != nil {
		return api.Instance{}, err
	}
	return ended, nil
}

func TestAWaitGoesOnAfterARestartOfAegisd(t *testing.T) {
	gone, bad := api.Errorf(api.NotFound, "no instance"), api.Errorf(api.BadState, "start it first")
	for name, c := range map[string]struct {
		until   api.Until
		answers []error
		phase   api.Phase
		code    api.Code
	}{
		"at once":                        {api.UntilStopped, []error{nil}, api.PhaseStopped, ""},
		"after a restart":                {api.UntilStopped, []error{away, away, nil}, api.PhaseStopped, ""},
		"a refusal":                      {api.UntilRunning, []error{away, bad}, "", api.BadState},
		"deleted meanwhile":              {api.UntilGone, []error{away, gone}, api.PhaseRunning, ""},
		"deleted meanwhile, not started": {api.UntilRunning, []error{away, gone}, api.PhaseRunning, api.BadState},
		"deleted before":                 {api.UntilGone, []error{gone}, "", api.NotFound},
	} {
		a := &waited{answers: c.answers}
		var notices []string
		w := follow.Waiter{Reader: follow.Reader{Aegis: a, Notice: func(l string) { notices = append(notices, l) }}}
		in, err := w.Wait(t.Context(), "web", c.until)
		if in.Phase != c.phase || api.CodeOf(err) != c.code || len(a.answers) > 0 || strings.Join(a.refs, "") != strings.Repeat("inst-1", len(a.refs)) {
			t.Errorf("%s: %s, %v, asked of %v", name, in.Phase, err, a.refs)
		}
		if (len(notices) == 1) != (len(a.refs) > 1) {
			t.Errorf("%s: notices %q", name, notices)
		}
	}
}

func TestAWaitHasAnEndWithoutAegisd(t *testing.T) {
	w := follow.Waiter{Reader: follow.Reader{Aegis: &waited{}, Patience: 50 * time.Millisecond}}
	_, err := w.Wait(t.Context(), "web", api.UntilStopped)
	if api.CodeOf(err) != api.Unavailable || !strings.HasPrefix(err.Error(), "aegisd has been away for more than 50ms: wait again when it is back") {
		t.Errorf("it ended with %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	w.Patience = time.Hour
	if _, err := w.Wait(ctx, "web", api.UntilStopped); err == nil || ctx.Err() == nil {
		t.Errorf("its context ended: %v", err)
	}
}
