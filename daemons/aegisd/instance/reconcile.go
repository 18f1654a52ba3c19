package instance

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/store"
	"github.com/xfeldman/aegisvm/vmm"
)

// reconcile makes records, machines and disks agree after a start, whatever
// the last aegisd was doing when it ended. It fails only where it cannot know
// what there is; single instances fail by themselves.
func (s *Service) reconcile(ctx context.Context) error {
	records, err := s.Records.All(ctx)
	if err != nil {
		return err
	}
	infos, err := s.Machines.List(ctx)
	if err != nil {
		return fmt.Errorf("listing machines: %w", err)
	}
	disks, err := s.Images.Disks(ctx)
	if err != nil {
		return fmt.Errorf("listing disks: %w", err)
	}
	logged, err := s.Config.Logs.Instances()
	if err != nil {
		return err
	}
	saved, err := s.Machines.Snapshots(ctx)
	if err != nil {
		return fmt.Errorf("listing snapshots: %w", err)
	}
	machines := make(map[string]vmm.Info, len(infos))
	for _, info := range infos {
		machines[info.ID] = info
	}
	s.removeOrphans(records, machines, disks)
	s.removeOrphanLogs(records, logged)
	s.removeOrphanSnapshots(records, saved)
	guests := guestsOf(records)
	for machine := range machines {
		guests[machine] = true
	}
	s.sweepWorkspaces(ctx, guests)
	s.sweepNetworks(guests)
	for _, rec := range records {
		s.restore(rec, machines, saved)
	}
	return nil
}

// removeOrphans removes machines and disks that no record names. One that
// resists is tried again at the next start.
func (s *Service) removeOrphans(records []store.Record, machines map[string]vmm.Info, disks []string) {
	ids, running := map[string]bool{}, map[string]bool{}
	for _, rec := range records {
		ids[rec.ID], running[rec.Status.Machine] = true, true
	}
	for machine := range machines {
		if !running[machine] {
			o := &owner{svc: s}
			s.Log.Warn("removing a machine without a record", "machine", machine, "error", o.removeMachine(machine, machine))
		}
	}
	for _, disk := range disks {
		if !ids[disk] {
			o := &owner{svc: s, id: disk}
			s.Log.Warn("removing a disk without a record", "disk", disk, "error", o.deleteDisk())
		}
	}
}

// removeOrphanLogs removes logs of which no record tells.
func (s *Service) removeOrphanLogs(records []store.Record, logged []string) {
	for _, id := range logged {
		if !slices.ContainsFunc(records, func(r store.Record) bool { return r.ID == id }) {
			s.Log.Warn("removing a log without a record", "instance", id, "error", s.Config.Logs.Remove(id))
		}
	}
}

// restore gives a record its owner back and tells it what became of its
// machine.
func (s *Service) restore(rec store.Record, machines map[string]vmm.Info, saved []vmm.Saved) {
	o := s.newOwner(rec)
	info, there := machines[rec.Status.Machine]
	kept := slices.ContainsFunc(saved, func(sv vmm.Saved) bool { return sv.ID == rec.Status.Sleep.Snapshot })
	s.add(o)
	o.post(func() {
		if rec.Status.Phase == api.PhaseHibernated {
			o.resumeHibernated(kept)
			return
		}
		o.resume(info, there)
	})
}

// guestsOf are the names that guests of records go by.
func guestsOf(records []store.Record) map[string]bool {
	all := map[string]bool{}
	for _, rec := range records {
		all[rec.Status.Sleep.Origin] = true
	}
	delete(all, "")
	return all
}

// removeOrphanSnapshots removes those that no record names, such as one of an
// instance that went on from it. One that resists is tried again at the next
// start.
func (s *Service) removeOrphanSnapshots(records []store.Record, saved []vmm.Saved) {
	for _, sv := range saved {
		if !slices.ContainsFunc(records, func(r store.Record) bool { return r.Status.Sleep.Snapshot == sv.ID }) {
			o := &owner{svc: s}
			s.Log.Warn("removing a snapshot without a record", "snapshot", sv.ID, "error", o.removeSnapshot(sv.ID))
		}
	}
}

// resume goes on where the last aegisd stopped.
func (o *owner) resume(info vmm.Info, there bool) {
	st := &o.rec.Status
	alive := there && info.State != vmm.StateEnded && info.State != vmm.StateStarting
	switch st.Phase {
	case api.PhaseRunning, api.PhasePaused:
		if alive {
			woke := st.Phase == api.PhasePaused && info.State == vmm.StateRunning
			if !woke {
				o.found(info.State, nil)
			}
			o.adopt()
			if b := o.boot; woke && b != nil {
				o.look(b) // its guest is told before the record says that it runs
			}
			o.finishStop()
			return
		}
		o.comeToRest(o.whyGone(info, there))
	case api.PhaseStarting:
		if o.unwanted() {
			o.comeToRest(nil)
			return
		}
		o.startAgain()
	case api.PhaseStopping:
		o.comeToRest(nil)
	default:
		o.resumeResting()
	}
}

// resumeResting tries again what the last aegisd could not finish.
func (o *owner) resumeResting() {
	if o.spec.AutoRemove {
		o.removing = true
	}
	if st := o.rec.Status; st.Machine != "" && !o.removing {
		o.comeToRest(errors.New(st.LastError))
		return
	}
	o.armRestart()
	o.reconsider()
}

// adopt takes over a machine that runs. The streams of its program are in
// the hands of the client that fetched them, if one did; whether it still
// lives shows when it rejoins.
func (o *owner) adopt() {
	b := o.newBoot()
	b.up = true
	close(b.begun)
	o.boot = b
	if o.spec.Attach {
		o.client = clientGone
		if o.rec.Status.Attached {
			o.client = clientAwaited
			o.awaitClient()
		}
	}
	o.svc.Log.Info("adopted", "instance", o.id, "machine", b.machine)
	o.serveWorkspace(b, true, func(err error) { o.svc.Log.Error("workspace not served", "instance", o.id, "error", err) })
	o.running(b)
	if !o.rec.Status.Sleep.Idle || o.rec.Status.Phase == api.PhaseRunning { // else nobody had any
		b.heirs = 1
	}
	o.svc.tasks.Go(func() {
		o.adoptExecs(b)
		o.inherit(b, -1)
	})
	o.reconsider()
}

// whyGone says why a running instance has no machine; nil after a reboot of
// the host, which ends machines as a matter of course.
func (o *owner) whyGone(info vmm.Info, there bool) error {
	switch {
	case there && info.Exit != nil && inOrder(*info.Exit, o.rec.Status.ExitCode != nil):
		return nil
	case there && info.Exit != nil:
		return endError(*info.Exit)
	case o.rec.Status.HostBoot != o.svc.HostBoot:
		return nil
	default:
		return endError(vanished)
	}
}

// startAgain starts what the last aegisd was starting, on a new machine. The
// program may have run for a moment before: between its start and the commit
// nobody can tell. Where a client waited for streams, it has got an error,
// and nobody would read them.
func (o *owner) startAgain() {
	if o.spec.Attach {
		o.comeToRest(api.Errorf(api.Unavailable, "aegisd ended while the instance was starting: start it again"))
		return
	}
	machine, origin := o.rec.Status.Machine, o.rec.Status.Sleep.Origin
	o.svc.tasks.Go(func() {
		err := o.removeMachine(machine, origin)
		o.post(func() {
			if err == nil && o.boot == nil && !o.removing {
				err = o.restart(machine, o.svc.nextStart(o.rec.Status))
			}
			if err != nil {
				o.fail(err)
			}
		})
	})
}

func (o *owner) fail(err error) {
	now := o.svc.now()
	o.rec.Status.Phase, o.rec.Status.LastError, o.rec.Status.Stopped = api.PhaseFailed, oneLine(err.Error()), &now
	o.planRestart(0)
	o.commit(o.rec.Status.LastError)
	o.tellRestart()
}

// comeToRest releases what is left of a machine and commits how it ended.
func (o *owner) comeToRest(why error) {
	b := o.newBoot()
	close(b.begun)
	o.boot = b
	out := outcome{phase: api.PhaseStopped, now: true}
	if why != nil {
		out = outcome{phase: api.PhaseFailed, err: why}
	}
	o.client = clientNone
	if why != nil && o.rec.Status.Attached {
		o.client = clientAwaited // it may come to read why
	}
	o.release(out)
}
