package instance

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/guestsession"
	"github.com/xfeldman/aegisvm/daemons/aegisd/store"
)

// Create implements api.Aegis. The record that is committed before the answer
// says "starting" and names the machine already, so one commit is enough.
func (s *Service) Create(ctx context.Context, who api.Caller, spec api.InstanceSpec) (api.Instance, error) {
	if o := s.namesake(spec.Handle); o != nil {
		return s.createAgain(ctx, o, spec)
	}
	for _, check := range []func(api.InstanceSpec) error{s.Limits.validate, s.admitNetwork} {
		if err := check(spec); err != nil {
			return api.Instance{}, err
		}
	}
	refused := checkAble(spec)
	if refused != nil && spec.AutoRemove {
		return api.Instance{}, refused // nothing of it stays
	}
	if err := s.room(); err != nil {
		return api.Instance{}, err
	}
	if ctx.Err() != nil {
		return api.Instance{}, interrupted(ctx)
	}
	rec := store.Record{
		ID: newID(), OwnerUID: who.UID, Created: time.Now().UTC(), Spec: spec,
		Status: s.firstStatus(refused),
	}
	if filepath.IsAbs(spec.Workspace) { // the file system of a user may be slow
		if err := s.admitWorkspace(ctx, rec.OwnerUID, spec, rec.ID); err != nil {
			return api.Instance{}, err
		}
	}
	o, err := s.insertWithPorts(ctx, rec)
	if err != nil {
		return api.Instance{}, api.AsError(err)
	}
	in := *o.view.Load()
	if refused != nil {
		o.post(func() { o.emit(api.EventCreated, in.LastError) })
		return in, api.Errorf(api.Unavailable, "%w: instance %s is kept and stopped", refused, firstOf(in.Handle, in.ID))
	}
	o.post(func() {
		o.emit(api.EventCreated, "")
		o.emit(api.EventPhase, "")
		o.begin()
	})
	return in, nil
}

// insert commits a new record that there is room for, and gives it an owner.
func (s *Service) insert(ctx context.Context, rec store.Record, endpoints []api.Endpoint) (*owner, error) {
	s.admission.Lock()
	defer s.admission.Unlock()
	if !atRest(rec.Status.Phase) {
		if err := s.admit(rec.ID, withDefaults(rec.Spec)); err != nil {
			return nil, err
		}
	}
	if !filepath.IsAbs(rec.Spec.Workspace) {
		if err := s.admitWorkspace(ctx, rec.OwnerUID, rec.Spec, rec.ID); err != nil {
			return nil, err
		}
	}
	ctx, cancel := s.bounded()
	defer cancel()
	if err := s.Records.Insert(ctx, rec); err != nil {
		return nil, err
	}
	o := s.newOwner(rec)
	o.endpoints = endpoints
	o.publish()
	if !s.add(o) {
		return nil, errClosing()
	}
	return o, nil
}

// room refuses more records than the limit; a few at once may pass it.
func (s *Service) room() error {
	s.mu.Lock()
	n := len(s.owners)
	s.mu.Unlock()
	if n >= s.Limits.Instances {
		return api.Errorf(api.LimitExceeded, "there are %d instances already: delete some", n)
	}
	return nil
}

func newID() string {
	id := make([]byte, 6)
	rand.Read(id)
	return idPrefix + hex.EncodeToString(id)
}

// Start implements api.Aegis.
func (s *Service) Start(ctx context.Context, ref string) (api.Instance, error) {
	o, err := s.find(ref)
	if err != nil {
		return api.Instance{}, err
	}
	leftover, origin, asleep := "", "", false
	err = o.ask(ctx, func() error {
		asleep = o.rec.Status.Phase == api.PhaseHibernated
		if o.boot == nil && !o.erasing {
			leftover, origin = o.rec.Status.Machine, o.rec.Status.Sleep.Origin
		}
		return nil
	})
	if asleep {
		return s.turn(ctx, o.id, api.PhaseRunning, "a start")
	}
	if err == nil && leftover != "" {
		err = o.removeMachine(leftover, origin)
	}
	in := *o.view.Load()
	if err == nil {
		err = o.ask(ctx, func() error {
			defer func() { in = *o.view.Load() }()
			return o.onStart(leftover)
		})
	}
	if err == nil && in.Phase == api.PhasePaused {
		return s.turn(ctx, o.id, api.PhaseRunning, "a start")
	}
	return in, atBoundary(err)
}

// atBoundary makes an *api.Error of an error, and of nil nil.
func atBoundary(err error) error {
	if err == nil {
		return nil
	}
	return api.AsError(err)
}

func (o *owner) onStart(leftover string) error {
	switch st := o.rec.Status; {
	case o.removing, o.boot == nil && o.spec.AutoRemove:
		return api.Errorf(api.BadState, "instance %s is being deleted", o.id)
	case o.boot != nil && o.boot.outcome != nil:
		return api.Errorf(api.BadState, "instance %s is stopping: start it when it has stopped", o.id)
	case o.boot != nil:
		return nil
	case st.Machine != leftover:
		return api.Errorf(api.BadState, "instance %s changed meanwhile: try again", o.id)
	}
	next := o.svc.nextStart(o.rec.Status)
	next.Revival = store.Revival{}
	return o.restart(leftover, next)
}

// restart commits the next start and begins it. Nothing may be left of the
// machine of the last one.
func (o *owner) restart(leftover string, next store.Status) error {
	if err := checkAble(o.spec); err != nil {
		return err
	}
	o.svc.admission.Lock()
	defer o.svc.admission.Unlock()
	if err := o.svc.admit(o.id, o.spec); err != nil {
		return err
	}
	enabled := o.rec.Status.Enabled
	if err := o.save(next); err != nil {
		return err
	}
	o.svc.route(leftover, nil)
	o.disarmRestart()
	o.closeSession()
	o.show("")
	o.begin()
	if !enabled {
		o.svc.nudgePorts() // they were closed
	}
	return nil
}

// Stop implements api.Aegis.
func (s *Service) Stop(ctx context.Context, ref string) (api.Instance, error) {
	o, err := s.find(ref)
	if err != nil {
		return api.Instance{}, err
	}
	var b *boot
	if err = o.ask(ctx, func() error { o.halt(); return nil }); err == nil {
		err = o.rouseToStop(ctx)
	}
	if err != nil {
		return *o.view.Load(), atBoundary(err)
	}
	err = o.ask(ctx, func() error {
		if b = o.boot; b != nil {
			o.release(outcome{phase: api.PhaseStopped})
		}
		return nil
	})
	if err != nil || b == nil {
		return *o.view.Load(), err
	}
	select {
	case <-b.released:
		return *o.view.Load(), atBoundary(b.left)
	case <-o.gone:
		return *o.view.Load(), nil
	case <-ctx.Done():
		return *o.view.Load(), interrupted(ctx)
	case <-s.ctx.Done():
		return *o.view.Load(), errClosing()
	}
}

// Delete implements api.Aegis. It goes on when the caller does not wait.
func (s *Service) Delete(ctx context.Context, ref string) error {
	o, err := s.find(ref)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	err = o.ask(ctx, func() error {
		o.removing = true
		o.deleters = append(o.deleters, done)
		o.reconsider()
		return nil
	})
	if err != nil {
		return err
	}
	select {
	case err := <-done:
		return atBoundary(err)
	case <-ctx.Done():
		return interrupted(ctx)
	case <-s.ctx.Done():
		return errClosing()
	}
}

// Signal implements api.Aegis.
func (s *Service) Signal(ctx context.Context, ref string, signal int) error {
	if signal < 1 || signal > 64 {
		return invalid("signal %d: expected 1 to 64", signal)
	}
	o, err := s.find(ref)
	if err != nil {
		return err
	}
	if err := o.awaken(ctx, "a signal"); err != nil {
		return atBoundary(err)
	}
	var b *boot
	var session *guestsession.Session
	err = o.ask(ctx, func() error {
		if b = o.boot; b == nil || b.exited || o.rec.Status.Phase != api.PhaseRunning {
			return api.Errorf(api.BadState, "instance %s runs no program to signal: it is %s", o.id, o.rec.Status.Phase)
		}
		session = b.session
		return nil
	})
	if err != nil {
		return err
	}
	err = o.beside(ctx, func(ctx context.Context) error {
		return o.withSession(ctx, b, session, func(s *guestsession.Session) error { return s.Signal(ctx, primary, signal) })
	})
	switch {
	case ctx.Err() != nil && err != nil:
		return interrupted(ctx)
	case errors.Is(err, guestsession.ErrNoProcess):
		return api.Errorf(api.BadState, "instance %s: the program has ended", o.id)
	case err != nil:
		return api.Errorf(api.Unavailable, "instance %s: %w", o.id, err)
	}
	return nil
}

// beside makes a call of the guest that does not end with the client that asks
// for it: a call that is given up costs all others the session.
func (o *owner) beside(ctx context.Context, call func(context.Context) error) error {
	done := make(chan error, 1)
	ended := o.calling()
	o.svc.tasks.Go(func() {
		defer ended()
		ctx, cancel := o.svc.bounded()
		defer cancel()
		done <- call(ctx)
	})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return interrupted(ctx)
	}
}

// oneLine keeps a reason fit for a table and a terminal.
func oneLine(text string) string {
	const limit = 1000
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
	if len(text) > limit {
		return fmt.Sprintf("%s... (%d bytes more)", strings.ToValidUTF8(text[:limit], ""), len(text)-limit)
	}
	return text
}
