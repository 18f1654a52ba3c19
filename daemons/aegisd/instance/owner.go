package instance

import (
	"context"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/logs"
	"github.com/xfeldman/aegisvm/daemons/aegisd/store"
)

// client tells where the client of an instance made with Attach is.
type client int

const (
	clientNone    client = iota // the spec asks for none
	clientAwaited               // has not fetched the streams yet
	clientOpen                  // holds the streams and its session
	clientGone                  // closed its session, or never came
)

// owner is the one goroutine that changes an instance. All fields but the
// first block belong to it alone.
type owner struct {
	svc     *Service
	id      string
	mail    chan func()                  // runs in the goroutine
	gone    chan struct{}                // closed when the record is deleted
	view    atomic.Pointer[api.Instance] // what clients see; never changed in place
	pin     atomic.Pointer[string]       // the digest of the image that a start uses
	network atomic.Pointer[string]       // the name of its guest's network, empty for none
	// changed is closed and replaced after each new view.
	changed atomic.Pointer[chan struct{}]

	log  *logs.Log // what it prints; any goroutine may append
	rec  store.Record
	spec api.InstanceSpec // rec.Spec with defaults
	boot *boot            // nil at rest

	client   client
	session  *os.File    // our end of the client's session
	taken    bool        // the client is known to have its end
	waiter   *waiter     // an Attach under way
	patience *time.Timer // until an awaited client counts as gone
	startErr error       // why the last start failed, for Attach
	execs    sessions    // our ends of the sessions of execs' clients

	removing bool         // asked to go
	erasing  bool         // the disk and the record are being deleted
	deleters []chan error // Delete calls under way

	disarm func() bool // stops the timer of a restart that is due

	endpoints []api.Endpoint // what the router has of it
	leases    map[*lease]struct{}
	traffic   atomic.Int64 // connections to its ports; any goroutine's

	idle    api.Idle // what the spec says of it, which stays as it was made
	sleep   sleeper
	thawing atomic.Bool  // it is being woken from disk, and has its memory already
	calls   atomic.Int64 // of its guest, for clients, under way; any goroutine's
}

func (s *Service) newOwner(rec store.Record) *owner {
	spec := withDefaults(rec.Spec)
	o := &owner{
		svc: s, id: rec.ID, rec: rec, spec: spec, idle: idlePolicy(spec.Idle),
		mail: make(chan func()), gone: make(chan struct{}), log: s.Config.Logs.Log(rec.ID),
	}
	o.publish()
	return o
}

// run works through the mailbox until the record is gone or the service
// closes.
func (o *owner) run() {
	defer o.letGo()
	for {
		select {
		case f := <-o.mail:
			f()
			o.considerSleep()
		case <-o.svc.ctx.Done():
			return
		}
		if o.isGone() {
			return
		}
	}
}

// letGo closes what the goroutine held.
func (o *owner) letGo() {
	if o.patience != nil {
		o.patience.Stop()
	}
	o.disarmRestart()
	o.sleep.disarm()
	o.closeSession()
	o.execs.close()
	o.endLeases()
	if o.boot != nil {
		o.boot.letGo()
	}
}

func (o *owner) isGone() bool {
	select {
	case <-o.gone:
		return true
	default:
		return false
	}
}

// post runs f in the owner's goroutine; false if it has ended and f will not
// run. The owner itself must not call it.
func (o *owner) post(f func()) bool {
	select {
	case o.mail <- f:
		return true
	case <-o.gone:
	case <-o.svc.ctx.Done():
	}
	return false
}

// postBoot runs f unless the instance has gone on to another boot.
func (o *owner) postBoot(b *boot, f func()) bool {
	return o.post(func() {
		if o.boot == b {
			f()
		}
	})
}

// ask runs f in the owner's goroutine and returns its error.
func (o *owner) ask(ctx context.Context, f func() error) error {
	reply := make(chan error, 1)
	select {
	case o.mail <- func() { reply <- f() }:
		return <-reply
	case <-o.gone:
		return api.Errorf(api.NotFound, "instance %s was deleted", o.id)
	case <-o.svc.ctx.Done():
		return errClosing()
	case <-ctx.Done():
		return interrupted(ctx)
	}
}

func interrupted(ctx context.Context) error {
	return api.Errorf(api.Unavailable, "request given up: %w", context.Cause(ctx))
}

// commit writes the status and shows it. A status that cannot be written is logged and kept in memory: the
// machine is real whether the disk is full or not, and after a crash the
// older row is reconciled with it.
func (o *owner) commit(message string) {
	if err := o.save(o.rec.Status); err != nil {
		o.svc.Log.Error("record not written", "instance", o.id, "error", err)
	}
	o.show(message)
}

// save commits a status that must be written before it holds.
func (o *owner) save(st store.Status) error {
	ctx, cancel := o.svc.bounded()
	defer cancel()
	now := o.svc.now()
	st.Updated = &now
	if err := o.svc.Records.Update(ctx, o.id, st); err != nil {
		return err
	}
	o.rec.Status = st
	return nil
}

// show makes the status what clients see and tells them of a new phase.
func (o *owner) show(message string) {
	before := o.view.Load().Phase
	o.publish()
	if after := o.rec.Status.Phase; after != before {
		o.emit(api.EventPhase, message)
		o.svc.Log.Info("phase", "instance", o.id, "handle", o.rec.Spec.Handle, "from", before, "to", after,
			"machine", o.rec.Status.Machine, "reason", message)
	}
}

func (o *owner) emit(kind, message string) {
	in := o.view.Load()
	o.svc.events.send(api.Event{
		Type: kind, Instance: o.id, Handle: in.Handle, Phase: in.Phase, Message: message,
	})
}

func (o *owner) publish() {
	st := o.rec.Status
	o.view.Store(&api.Instance{
		ID: o.id, Handle: o.rec.Spec.Handle, State: st.Phase.State(), Phase: st.Phase, Enabled: st.Enabled,
		Command: append([]string{}, o.spec.Command...), ImageRef: o.spec.ImageRef, Digest: st.Digest, Env: o.spec.Env,
		Workdir: o.spec.Workdir, User: o.spec.User, MemoryMB: o.spec.MemoryMB, VCPUs: o.spec.VCPUs, DiskMB: o.spec.DiskMB,
		OwnerUID: o.rec.OwnerUID, CreatedAt: o.rec.Created, StartedAt: st.Started, StoppedAt: st.Stopped,
		LastError: st.LastError, ExitCode: st.ExitCode, ExitSignal: st.ExitSignal, Machine: st.Machine,
		SecretKeys: secretKeys(o.spec),
		Hostname:   o.spec.Hostname, Labels: o.spec.Labels, Restart: o.spec.Restart,
		Exposes: exposesWithDefaults(o.rec.Spec.Exposes), Kit: o.spec.Kit, Idle: o.spec.Idle,
		Starts: st.Generation, RestartCount: st.Revival.Count, RestartAt: st.Revival.Due,
		Workspace: o.spec.Workspace, NetworkSpec: o.spec.NetworkSpec,
		UpdatedAt: timeOr(st.Updated, o.rec.Created), LastActiveAt: timeOr(st.Active, o.rec.Created),
		ActiveConnections: o.connections(), Reach: o.reach(), Sleep: o.sleepNow(),
		Leased: o.leased(),
	})
	name := firstOf(st.Sleep.Origin, st.Machine)
	o.network.Store(&name)
	fresh := make(chan struct{})
	if old := o.changed.Swap(&fresh); old != nil {
		close(*old)
	}
}

// reconsider looks at where the instance is and does what is due. It is
// called after every change and decides from the state alone, so that no
// order of events can make it forget something.
func (o *owner) reconsider() {
	alone := o.client == clientNone || o.client == clientGone
	if o.spec.AutoRemove && (o.client == clientGone || alone && o.ended()) {
		o.removing = true
	}
	switch {
	case o.removing && o.boot != nil:
		o.release(outcome{phase: api.PhaseStopped, now: !o.mustWriteBack()})
	case o.removing:
		o.erase()
	case o.boot != nil && o.boot.exited && alone:
		o.release(outcome{phase: api.PhaseStopped})
	}
	if o.boot == nil && o.rec.Status.Phase != api.PhaseHibernated {
		o.tellRest()
	}
}

// ended tells whether nothing more will come of the last start.
func (o *owner) ended() bool {
	if o.boot == nil {
		return o.rec.Status.Phase != api.PhaseHibernated
	}
	return o.boot.exited
}

// awaitClient gives an absent client the attach grace to come.
func (o *owner) awaitClient() {
	if o.client != clientAwaited || o.patience != nil {
		return
	}
	o.patience = time.AfterFunc(o.svc.Timings.AttachGrace, func() {
		o.post(func() {
			if o.client == clientAwaited && o.waiter == nil {
				o.client = clientGone
				o.reconsider()
			}
		})
	})
}

func (o *owner) stopWaitingForClient() {
	if o.patience != nil {
		o.patience.Stop()
		o.patience = nil
	}
}

// answerDeleters ends the Delete calls under way.
func (o *owner) answerDeleters(err error) {
	for _, c := range o.deleters {
		c <- err // buffered
	}
	o.deleters = slices.Delete(o.deleters, 0, len(o.deleters))
}
