package instance_test

import (
	"context"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm/fake"
)

// result is what a verb does to an instance in a phase: it is refused with a
// code, or the instance becomes what then says; gone is api.Phase("").
type result struct {
	code api.Code
	then api.Phase
}

const gone = api.Phase("")

// callers are the verbs, for the instance web.
var callers = map[string]func(context.Context, *world) error{
	"start":     func(ctx context.Context, w *world) error { _, err := w.Start(ctx, "web"); return err },
	"stop":      func(ctx context.Context, w *world) error { _, err := w.Stop(ctx, "web"); return err },
	"restart":   func(ctx context.Context, w *world) error { _, err := w.Restart(ctx, "web"); return err },
	"enable":    func(ctx context.Context, w *world) error { _, err := w.Enable(ctx, "web"); return err },
	"disable":   func(ctx context.Context, w *world) error { _, err := w.Disable(ctx, "web"); return err },
	"hibernate": func(ctx context.Context, w *world) error { _, err := w.Hibernate(ctx, "web"); return err },
	"pause":     func(ctx context.Context, w *world) error { _, err := w.Pause(ctx, "web"); return err },
	"resume":    func(ctx context.Context, w *world) error { _, err := w.Resume(ctx, "web"); return err },
	"rename":    func(ctx context.Context, w *world) error { _, err := w.Rename(ctx, "web", "www"); return err },
	"signal":    func(ctx context.Context, w *world) error { return w.Signal(ctx, "web", 2) },
	"delete":    func(ctx context.Context, w *world) error { return w.Delete(ctx, "web") },
}

// situation brings web into a phase and tells what every verb does there.
type situation struct {
	bring func(*world)
	verbs map[string]result
}

func ok(then api.Phase) result { return result{then: then} }

func refused(then api.Phase) result { return result{api.BadState, then} }

// same is a situation's table: what the verbs do that do not start, stop or
// delete, and those that do.
func same(phase api.Phase, others map[string]result) map[string]result {
	all := map[string]result{
		"start": ok(api.PhaseRunning), "stop": ok(phase), "restart": ok(api.PhaseRunning), "enable": ok(phase), "disable": ok(phase),
		"hibernate": refused(phase), "pause": refused(phase), "resume": refused(phase), "rename": ok(phase), "signal": refused(phase), "delete": ok(gone),
	}
	for verb, r := range others {
		all[verb] = r
	}
	return all
}

var situations = map[string]situation{
	"starting": {
		func(w *world) {
			w.machines.driver.Behave(fake.Behaviour{NeverReady: true})
			w.awaitMachine(w.create(web()))
		},
		same(api.PhaseStarting, map[string]result{
			"start": ok(api.PhaseStarting), "restart": ok(api.PhaseStarting), "stop": ok(api.PhaseStopped), "disable": ok(api.PhaseStopped),
		}),
	},
	"running": {
		func(w *world) { w.create(web()); w.awaitPhase("web", api.PhaseRunning) },
		same(api.PhaseRunning, map[string]result{
			"stop": ok(api.PhaseStopped), "disable": ok(api.PhaseStopped), "pause": ok(api.PhasePaused), "hibernate": ok(api.PhaseHibernated), "resume": ok(api.PhaseRunning), "signal": ok(api.PhaseRunning),
		}),
	},
	"paused": {
		func(w *world) {
			w.create(web())
			w.awaitPhase("web", api.PhaseRunning)
			w.call("pause")
		},
		same(api.PhasePaused, map[string]result{
			"stop": ok(api.PhaseStopped), "disable": ok(api.PhaseStopped), "pause": ok(api.PhasePaused), "hibernate": ok(api.PhaseHibernated), "resume": ok(api.PhaseRunning), "signal": ok(api.PhaseRunning),
		}),
	},
	"hibernated": {
		func(w *world) {
			w.create(web())
			w.awaitPhase("web", api.PhaseRunning)
			w.call("hibernate")
		},
		same(api.PhaseHibernated, map[string]result{
			"stop": ok(api.PhaseStopped), "disable": ok(api.PhaseStopped), "pause": ok(api.PhaseHibernated), "resume": ok(api.PhaseRunning), "signal": ok(api.PhaseRunning),
			"hibernate": ok(api.PhaseHibernated),
		}),
	},
	"stopping": {
		func(w *world) { w.held("stop") },
		same(api.PhaseStopped, map[string]result{"start": refused(api.PhaseStopped)}),
	},
	"deleting": {
		func(w *world) { w.held("delete") },
		map[string]result{
			"start": refused(gone), "stop": ok(gone), "restart": refused(gone), "enable": refused(gone), "disable": refused(gone),
			"hibernate": refused(gone), "pause": refused(gone), "resume": refused(gone), "rename": refused(gone), "signal": refused(gone), "delete": ok(gone),
		},
	},
	"stopped": {
		func(w *world) {
			w.create(web())
			w.awaitPhase("web", api.PhaseRunning)
			w.call("stop")
		},
		same(api.PhaseStopped, nil),
	},
	"disabled": {
		func(w *world) {
			w.create(web())
			w.awaitPhase("web", api.PhaseRunning)
			w.call("disable")
		},
		same(api.PhaseStopped, nil),
	},
	"failed": {
		func(w *world) {
			w.machines.driver.Behave(fake.Behaviour{PanicAtBoot: "no root"})
			w.create(web())
			w.awaitPhase("web", api.PhaseFailed)
			w.machines.driver.Behave(fake.Behaviour{})
		},
		same(api.PhaseFailed, nil),
	},
	"about to be started again": {
		func(w *world) {
			w.machines.driver.Behave(fake.Behaviour{PanicAtBoot: "no root"})
			spec := web()
			spec.Restart = api.RestartAlways
			w.create(spec)
			w.awaitDue(1)
			w.machines.driver.Behave(fake.Behaviour{})
		},
		same(api.PhaseFailed, nil),
	},
}

func web() api.InstanceSpec { return api.InstanceSpec{Handle: "web", Command: []string{"trap"}} }

// call is a verb that has to work.
func (w *world) call(verb string) {
	w.t.Helper()
	if err := callers[verb](w.t.Context(), w); err != nil {
		w.t.Fatalf("%s: %v", verb, err)
	}
}

// held begins a verb that ends a machine, which does not go yet.
func (w *world) held(verb string) {
	w.create(web())
	w.awaitPhase("web", api.PhaseRunning)
	w.machines.mu.Lock()
	w.machines.hold = make(chan struct{})
	w.machines.mu.Unlock()
	go callers[verb](w.t.Context(), w) // ends with the machine
	w.awaitPhase("web", api.PhaseStopping)
}

func (w *world) letGo() {
	w.machines.mu.Lock()
	defer w.machines.mu.Unlock()
	if w.machines.hold != nil {
		close(w.machines.hold)
		w.machines.hold = nil
	}
}

func TestEveryVerbInEveryPhase(t *testing.T) {
	for phase, s := range situations {
		for verb, want := range s.verbs {
			t.Run(verb+" when "+phase, func(t *testing.T) {
				w, _ := timedWorld(t)
				s.bring(w)
				in, err := w.Get(t.Context(), "web")
				if err != nil {
					t.Fatal(err)
				}
				answer := make(chan error, 1)
				go func() { answer <- callers[verb](t.Context(), w) }()
				if waits(verb, phase) {
					w.letGo()
				}
				err = <-answer
				w.letGo()
				lost := want.then == gone && api.CodeOf(err) == api.NotFound // the deletion was quicker
				if api.CodeOf(err) != want.code && !lost {
					t.Errorf("answer: %s, %v; want %q", api.CodeOf(err), err, want.code)
				}
				if want.then == gone {
					w.awaitGone(in.ID)
				} else {
					w.awaitPhase(in.ID, want.then)
				}
			})
		}
		if len(s.verbs) != len(callers) {
			t.Errorf("%s: %d of %d verbs", phase, len(s.verbs), len(callers))
		}
	}
}

// waits tells whether a verb waits for a machine that is held back.
func waits(verb, phase string) bool {
	switch verb {
	case "stop", "delete":
		return true
	case "disable", "restart":
		return phase != "deleting"
	}
	return false
}
