package instance

import (
	"fmt"
	"slices"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/store"
)

// What the restart policy goes by.
const (
	firstDelay   = time.Second     // before the first start again; each next one doubles it
	longestDelay = time.Minute     // up to this
	steady       = time.Minute     // a run of this length forgets the failures before it
	tryWindow    = 2 * time.Minute // within this
	maxTries     = 5               // on-failure starts so often, then gives up
)

// nextTry decides whether and when an instance that has come to rest is
// started again, after a run of so long. gaveUp is told once.
func nextTry(policy api.RestartPolicy, r store.Revival, failed bool, ran time.Duration, now time.Time) (next store.Revival, gaveUp bool) {
	wanted := policy == api.RestartAlways || policy == api.RestartOnFailure && failed
	if r.Halted || r.Due != nil || !wanted {
		return r, false
	}
	if ran >= steady {
		r.Step, r.Tries = 0, nil
	}
	r.Tries = slices.DeleteFunc(slices.Clone(r.Tries), func(t time.Time) bool { return now.Sub(t) >= tryWindow })
	if policy == api.RestartOnFailure && len(r.Tries) >= maxTries {
		r.Halted = true
		return r, true
	}
	delay := firstDelay << r.Step
	if delay < longestDelay {
		r.Step++
	}
	due := now.Add(min(delay, longestDelay))
	r.Due = &due
	return r, false
}

// ranFor is how long the program of the last start ran.
func ranFor(st store.Status) time.Duration {
	if st.Started == nil || st.Stopped == nil {
		return 0
	}
	return st.Stopped.Sub(*st.Started)
}

// planRestart notes in the status of an instance at rest what its policy
// says and arms it; the caller commits it and then calls tellRestart.
func (o *owner) planRestart(ran time.Duration) {
	st := &o.rec.Status
	if o.removing || !st.Enabled {
		return
	}
	failed := st.Phase == api.PhaseFailed || st.ExitCode != nil && *st.ExitCode != 0 || st.ExitSignal != 0
	next, gaveUp := nextTry(o.spec.Restart, st.Revival, failed, ran, o.svc.now())
	st.Revival = next
	if gaveUp {
		why := st.LastError
		if why == "" && st.ExitCode != nil {
			why = exitText(*st.ExitCode, st.ExitSignal, "")
		}
		st.Phase, st.LastError = api.PhaseFailed, oneLine(fmt.Sprintf("gave up after %d restarts within %v: %s", maxTries, tryWindow, why))
		o.note(api.LogStderr, "[aegis] failed: %s", st.LastError)
	}
	o.armRestart()
}

// armRestart makes a restart that is due happen.
func (o *owner) armRestart() {
	o.disarmRestart()
	if due := o.rec.Status.Revival.Due; due != nil {
		o.disarm = o.svc.Clock.AfterFunc(max(due.Sub(o.svc.now()), 0), func() { o.post(o.onDue) })
	}
}

// tellRestart tells of a restart that is due.
func (o *owner) tellRestart() {
	if due := o.rec.Status.Revival.Due; due != nil {
		wait := max(due.Sub(o.svc.now()), 0).Round(time.Millisecond)
		o.note(api.LogStderr, "[aegis] starts again in %v", wait)
		o.emit(api.EventChanged, fmt.Sprintf("starts again in %v", wait))
	}
}

func (o *owner) disarmRestart() {
	if o.disarm != nil {
		o.disarm()
		o.disarm = nil
	}
}

// dueNow tells whether a restart is due and nobody was quicker.
func (o *owner) dueNow() bool {
	return o.boot == nil && !o.removing && o.rec.Status.Revival.Due != nil
}

// onDue starts the instance again, once nothing is left of its last machine.
func (o *owner) onDue() {
	if !o.dueNow() {
		return
	}
	machine, origin := o.rec.Status.Machine, o.rec.Status.Sleep.Origin
	if machine == "" {
		o.revive(machine, nil)
		return
	}
	o.svc.tasks.Go(func() {
		err := o.removeMachine(machine, origin)
		o.post(func() { o.revive(machine, err) })
	})
}

// revive is a start by the policy. One that is refused counts as a try.
func (o *owner) revive(machine string, err error) {
	if !o.dueNow() {
		return
	}
	st := &o.rec.Status
	r := st.Revival
	r.Due, r.Tries = nil, append(slices.Clone(r.Tries), o.svc.now())
	if err == nil {
		next := o.svc.nextStart(*st)
		next.Revival = r
		next.Revival.Count++
		err = o.restart(machine, next)
	}
	if err != nil {
		st.Revival = r
		st.Phase, st.LastError = api.PhaseFailed, oneLine(err.Error())
		o.planRestart(0)
		o.commit(st.LastError)
		o.tellRestart()
	}
}

// halt keeps the policy from starting the instance again: a user wants it at
// rest. It is committed, so that a crash does not forget it.
func (o *owner) halt() {
	st := &o.rec.Status
	if st.Revival.Halted || o.spec.Restart != api.RestartAlways && o.spec.Restart != api.RestartOnFailure {
		return
	}
	due := st.Revival.Due != nil
	st.Revival.Halted, st.Revival.Due = true, nil
	o.disarmRestart()
	o.commit("")
	if due {
		o.emit(api.EventChanged, "is not started again")
	}
}
