package instance

import "time"

// activeStep is how exact the time of the last activity is: what is used all
// the time is not written all the time.
const activeStep = 10 * time.Second

// touch notes that somebody uses the instance: a start, an exec, a copy, an
// attach, a signal, and the end of a connection. An instance that goes with its
// client is not worth a write.
func (o *owner) touch() {
	now, last := o.svc.now(), o.rec.Status.Active
	o.sleep.used(now)
	if o.removing || o.spec.AutoRemove || last != nil && now.Sub(*last) < activeStep {
		return
	}
	o.rec.Status.Active = &now
	o.commit("")
}

// connections counts the clients that hold streams of the instance.
func (o *owner) connections() int {
	n := len(o.execs)
	if o.session != nil {
		n++
	}
	return n
}

// disconnected is told when a client has let go of its streams.
func (o *owner) disconnected() {
	o.publish()
	o.touch()
}

func timeOr(t *time.Time, other time.Time) time.Time {
	if t != nil {
		return *t
	}
	return other
}
