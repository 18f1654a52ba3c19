package instance

import (
	"cmp"
	"fmt"
	"reflect"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/store"
)

// rung is a step down the ladder of sleep.
type rung int

const (
	rungNone rung = iota
	rungLook      // the guest is asked how much it has done
	rungPause
	rungHibernate
	rungSpent  // what its programs do has kept it awake for long enough
	rungLease  // a lease ends
	rungExpire // its program is out of time
)

// sleeper is what an owner knows of the way to sleep of its instance. After
// each change it is made to agree with where the instance is, so that no order
// of events can make it forget something or act on an earlier boot.
type sleeper struct {
	boot  *boot     // that the rest is about,
	phase api.Phase // in this phase
	since time.Time // nobody has used it since; zero while somebody does
	// unused is when somebody outside has used it last; what its guest does
	// moves since on, and not this.
	unused time.Time
	seen   *sample // what its guest had done a moment ago
	// asking says that the guest is being asked.
	asking bool
	alarm  *alarm
	// obstacle says why the last step was not taken.
	obstacle string
}

// alarm is a step that is due at a time.
type alarm struct {
	rung rung
	at   time.Time
	stop func() bool
}

func (s *sleeper) disarm() {
	if s.alarm != nil {
		s.alarm.stop()
		s.alarm = nil
	}
}

// used is told when somebody has used the instance for a moment.
func (s *sleeper) used(now time.Time) {
	if !s.since.IsZero() {
		s.since, s.unused, s.seen = now, now, nil
	}
}

// considerSleep decides when the next step is due.
func (o *owner) considerSleep() {
	uses := o.settleSleep()
	if len(uses) > 0 && o.rec.Status.Phase == api.PhasePaused && o.rec.Status.Sleep.Idle {
		o.rise()
	}
	o.arm(o.nextRung())
	o.tellSleep()
}

// settleSleep makes what is known agree with where the instance is, and says
// what keeps it awake.
func (o *owner) settleSleep() (uses []string) {
	s, phase := &o.sleep, o.rec.Status.Phase
	if s.boot != o.boot || s.phase != phase {
		s.disarm()
		*s = sleeper{boot: o.boot, phase: phase}
	}
	uses = o.uses()
	switch {
	case len(uses) > 0:
		s.since, s.seen = time.Time{}, nil
	case s.since.IsZero():
		s.since = o.svc.now()
		s.unused = s.since
	}
	return uses
}

// rise lets an instance go on that was put to sleep in the very moment in which
// somebody began to use it.
func (o *owner) rise() {
	if b := o.boot; b != nil && b.outcome == nil && b.turn == nil {
		o.onTurn(api.PhaseRunning, "somebody used it just then")
	}
}

// uses says what keeps the instance awake.
func (o *owner) uses() []string {
	all := o.holders()
	if n := o.traffic.Load(); n > 0 {
		all = append(all, fmt.Sprintf("connections to its ports: %d", n))
	} else if len(o.leases) > 0 {
		all = append(all, "connections to its ports: the last one was open a second ago")
	}
	return all
}

// holders says who would lose something if the machine went, besides
// connections to its ports, of which routers tell a moment late.
func (o *owner) holders() (all []string) {
	say := func(there bool, format string, args ...any) {
		if there {
			all = append(all, fmt.Sprintf(format, args...))
		}
	}
	say(o.session != nil, "a client has its streams")
	say(o.session == nil && (o.waiter != nil || o.client == clientAwaited), "the client that started it is awaited")
	say(len(o.execs) > 0, "clients of execs and copies: %d", len(o.execs))
	say(o.boot != nil && o.boot.heirs > 0, "programs of clients that were there before aegisd was restarted")
	say(o.calls.Load() > 0, "a request to its guest is under way")
	lease := o.leaseUse()
	say(lease != "", "%s", lease)
	return all
}

// calling counts a call of the guest for a client until the function that it
// returns is called.
func (o *owner) calling() (ended func()) {
	o.calls.Add(1)
	return func() {
		o.calls.Add(-1)
		o.post(func() { o.sleep.used(o.svc.now()) })
	}
}

// sleepAfter is how long the instance is left alone in this phase before it
// sleeps more deeply; false if it never does.
func (o *owner) sleepAfter() (after time.Duration, ever bool) {
	switch o.sleep.phase {
	case api.PhaseRunning:
		return cmp.Or(o.idle.Pause, api.DefaultPause), o.idle.Pause != api.NeverIdle
	case api.PhasePaused:
		return cmp.Or(o.idle.Hibernate, api.DefaultHibernate), o.idle.Hibernate != api.NeverIdle
	}
	return 0, false
}

// idlePolicy is what a spec says, which was checked when it was made.
func idlePolicy(p api.IdlePolicy) api.Idle {
	idle, err := p.Parse()
	if err != nil {
		return api.Idle{Pause: api.NeverIdle}
	}
	return idle
}

// nextRung is the next step and when it is due.
func (o *owner) nextRung() (rung, time.Time) {
	s, b := &o.sleep, o.boot
	if b == nil && s.phase == api.PhaseHibernated && o.spec.TimeoutMS > 0 && o.rec.Status.Started != nil {
		return rungExpire, o.rec.Status.Started.Add(time.Duration(o.spec.TimeoutMS) * time.Millisecond)
	}
	if until, _ := o.lent(); !until.IsZero() {
		return rungLease, until
	}
	if b == nil || !b.up || b.outcome != nil || b.turn != nil || o.removing || s.asking || s.since.IsZero() {
		return rungNone, time.Time{}
	}
	after, ever := o.sleepAfter()
	switch due, spent := o.due(after); {
	case !ever:
		return rungNone, time.Time{}
	case s.phase == api.PhasePaused:
		return rungHibernate, due
	case spent:
		return rungSpent, due
	case s.seen == nil && !o.idle.LeasesOnly:
		return rungLook, due.Add(-window(after))
	case s.seen != nil:
		return rungPause, later(due, s.seen.at.Add(window(after)))
	default:
		return rungPause, due
	}
}

// due is when an instance that is left alone for so long takes the next step,
// and whether it must, as what its programs do keeps it awake no longer.
func (o *owner) due(after time.Duration) (at time.Time, spent bool) {
	s := &o.sleep
	at = s.since.Add(after)
	last := s.unused.Add(max(o.idle.Budget, after))
	switch {
	case o.idle.Budget == 0 || s.phase != api.PhaseRunning || !at.After(last):
		return at, false
	case s.since.After(last): // it could not be done
		return at, true
	}
	return last, true
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// arm makes a step happen at its time, unless it is so already.
func (o *owner) arm(next rung, at time.Time) {
	s := &o.sleep
	if a := s.alarm; a != nil && a.rung == next && a.at.Equal(at) {
		return
	}
	s.disarm()
	if next == rungNone {
		return
	}
	a := &alarm{rung: next, at: at}
	s.alarm = a
	a.stop = o.svc.Clock.AfterFunc(max(at.Sub(o.svc.now()), 0), func() {
		o.post(func() { o.onAlarm(a) })
	})
}

// onAlarm takes the step that is due, unless something has happened since.
func (o *owner) onAlarm(a *alarm) {
	o.considerSleep()
	s := &o.sleep
	if s.alarm != a {
		return
	}
	s.alarm = nil
	switch b := o.boot; {
	case a.rung == rungExpire:
		o.svc.tasks.Go(func() { _ = o.turnTo(o.svc.ctx, api.PhaseRunning, "its program is out of time") })
	case a.rung == rungLease: // the clock was set back a little
		o.considerSleep()
	case a.rung == rungHibernate:
		o.fallAsleep(b, api.PhaseHibernated, "")
	case a.rung == rungSpent:
		o.fallAsleep(b, api.PhasePaused, fmt.Sprintf("nobody but its own programs used it for %v", o.svc.now().Sub(s.unused).Round(time.Second)))
	case a.rung == rungLook:
		o.askActivity(b, func(now sample) { s.seen = &now })
	case s.seen == nil:
		o.fallAsleep(b, api.PhasePaused, "")
	default:
		o.askActivity(b, func(now sample) { o.judge(b, now) })
	}
}

// judge puts the instance to sleep unless its guest has been at work.
func (o *owner) judge(b *boot, now sample) {
	s := &o.sleep
	if s.seen == nil {
		return // it was used meanwhile
	}
	if work := s.seen.work(now); work != "" {
		s.obstacle = "its guest was at work: " + work
		s.since, s.seen = now.at, nil
		return
	}
	o.fallAsleep(b, api.PhasePaused, "")
}

// fallAsleep takes an instance that nobody uses a step down; why is empty where
// its guest does nothing either.
func (o *owner) fallAsleep(b *boot, to api.Phase, why string) {
	if b.turn != nil || len(o.uses()) > 0 {
		return
	}
	s := &o.sleep
	if why == "" {
		why = fmt.Sprintf("nobody used it for %v", o.svc.now().Sub(s.since).Round(time.Second))
	}
	t, err := o.onTurn(to, why)
	if err == nil && t != nil {
		t.idle = true
	}
}

// notSlept notes why a step was not taken; it is tried again when the instance
// has been idle for as long once more.
func (o *owner) notSlept(why error) {
	s := &o.sleep
	if text := oneLine(why.Error()); text != s.obstacle { // it is tried again and again
		s.obstacle = text
		o.svc.Log.Warn("not put to sleep", "instance", o.id, "error", why)
	}
	s.since, s.seen = o.svc.now(), nil
}

// noteTurn puts into the record why the instance sleeps or is awake again.
func (o *owner) noteTurn(t *turn) {
	now := o.svc.now()
	st := store.Sleep{Reason: "it was found so", Since: &now, Origin: o.rec.Status.Sleep.Origin, Unaware: o.rec.Status.Sleep.Unaware}
	if t != nil && t.why != "" {
		// Who is woken by us has been told before.
		st.Reason, st.Idle, st.Unaware = t.why, t.idle, st.Unaware && t.to != api.PhaseRunning
	}
	o.rec.Status.Sleep = st
}

// tellTurn tells what a turn has led to.
func (o *owner) tellTurn(t *turn) {
	kind := map[api.Phase]string{
		api.PhaseRunning: api.EventWoken, api.PhasePaused: api.EventPaused, api.PhaseHibernated: api.EventHibernated,
	}[o.rec.Status.Phase]
	message := o.rec.Status.Sleep.Reason
	if t != nil {
		message += fmt.Sprintf(" (%v)", o.svc.now().Sub(t.at).Round(100*time.Microsecond))
	}
	o.emit(kind, message)
}

// tellSleep shows clients what has changed.
func (o *owner) tellSleep() {
	if now := o.sleepNow(); !reflect.DeepEqual(now, o.view.Load().Sleep) {
		o.publish()
	}
}

// sleepNow is what clients see of the sleep of an instance.
func (o *owner) sleepNow() *api.Sleep {
	uses := o.settleSleep()
	s, phase, b := &o.sleep, o.rec.Status.Phase, o.boot
	awake := b != nil && b.outcome == nil && (phase == api.PhaseRunning || phase == api.PhasePaused)
	if !awake && phase != api.PhaseHibernated {
		return nil
	}
	st := o.rec.Status.Sleep
	told := &api.Sleep{InUse: uses, Reason: st.Reason, Since: st.Since, Obstacle: s.obstacle, SnapshotBytes: st.Bytes}
	after, ever := o.sleepAfter()
	switch {
	case !awake:
	case !ever:
		told.Obstacle = firstOf(told.Obstacle, "its idle policy lets it sleep no deeper")
	case !s.since.IsZero():
		due, _ := o.due(after)
		told.Next, told.NextAt = nextPhase[phase], &due
	}
	return told
}

var nextPhase = map[api.Phase]api.Phase{api.PhaseRunning: api.PhasePaused, api.PhasePaused: api.PhaseHibernated}
