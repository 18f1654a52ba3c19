package instance

import (
	"context"
	"os"
	"slices"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/guestsession"
	"github.com/xfeldman/aegisvm/daemons/aegisd/workspaces"
	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/workspace/door"
)

// Workspaces keeps folders and serves them to guests; package workspaces has
// the real one.
type Workspaces interface {
	// Admit refuses a workspace that its owner cannot have.
	Admit(ctx context.Context, p workspaces.Place) error
	// Serve serves a folder to a guest until ctx ends; an error is one that
	// stays.
	Serve(ctx context.Context, p workspaces.Place, g workspaces.Guest) error
	// Forget forgets a machine that is gone, Sweep all that are not there.
	Forget(ctx context.Context, machine string)
	Sweep(ctx context.Context, there func(machine string) bool)
	List() ([]api.Workspace, error)
	Remove(ctx context.Context, p workspaces.Place) error

	// Tree, Read, Write and Put are those of api.Files.
	Tree(ctx context.Context, p workspaces.Place, path string) ([]api.FileEntry, error)
	Read(ctx context.Context, p workspaces.Place, path string) (*os.File, error)
	Write(ctx context.Context, p workspaces.Place, path string, data *os.File) error
	Put(ctx context.Context, p workspaces.Place, mediaType string, data *os.File) (api.Blob, error)
}

func checkWorkspace(spec api.InstanceSpec) error { return door.CheckFolder(spec.Workspace) }

// admitWorkspace refuses a workspace that the instance could not have.
func (s *Service) admitWorkspace(ctx context.Context, owner uint32, spec api.InstanceSpec, id string) error {
	switch {
	case spec.Workspace == "":
		return nil
	case s.Config.Workspaces == nil:
		return errNoWorkspaces()
	}
	ctx, cancel := context.WithTimeout(ctx, s.Timings.CallTimeout)
	defer cancel()
	return s.Config.Workspaces.Admit(ctx, workspaces.PlaceOf(owner, spec.Workspace, id))
}

func errNoWorkspaces() error {
	return api.Errorf(api.Unavailable, "this aegisd cannot serve workspaces: leave --workspace out")
}

// place is where the instance's workspace is.
func (o *owner) place() workspaces.Place {
	return workspaces.PlaceOf(o.rec.OwnerUID, o.spec.Workspace, o.id)
}

// readmitWorkspace is admitWorkspace for what has changed since the instance
// was made.
func (o *owner) readmitWorkspace(b *boot) error {
	if b.generation == 1 {
		return nil
	}
	return o.svc.admitWorkspace(b.ctx, o.rec.OwnerUID, o.spec, o.id)
}

// serveWorkspace serves the workspace to the machine of a boot until that is
// being released, if it has one. served tells that an earlier aegisd has done
// so, failed is called if it cannot be.
func (o *owner) serveWorkspace(b *boot, served bool, failed func(error)) {
	if o.spec.Workspace == "" || o.svc.Config.Workspaces == nil {
		return
	}
	p := o.place()
	g := workspaces.Guest{Machine: b.origin, Served: served, Dial: func(ctx context.Context) (*os.File, error) {
		if err := o.awaitAwake(b); err != nil {
			return nil, err
		}
		return o.svc.Machines.Connect(ctx, b.machine, proto.PortWorkspace)
	}}
	b.serving.Add(1)
	o.svc.tasks.Go(func() {
		defer b.serving.Done()
		if err := o.svc.Config.Workspaces.Serve(b.ctx, p, g); err != nil {
			failed(err)
		}
	})
}

// mountWorkspace gives a guest its workspace before the program starts.
func (o *owner) mountWorkspace(b *boot, session *guestsession.Session) error {
	if o.spec.Workspace == "" {
		return nil
	}
	ctx, cancel := context.WithCancelCause(b.ctx)
	defer cancel(nil)
	o.serveWorkspace(b, false, cancel)
	return session.Mount(ctx, proto.WorkspacePath)
}

// mustWriteBack tells whether a guest whose program has ended may still have
// something for its workspace, so that its plug is not pulled. Deleting an
// instance whose program runs is a pulled plug all the same.
func (o *owner) mustWriteBack() bool { return o.spec.Workspace != "" && o.boot.exited }

// forgetWorkspace waits for the server of a machine that is gone, and forgets
// what it knew.
func (o *owner) forgetWorkspace(b *boot) {
	b.serving.Wait()
	o.forgetGuest(b.origin)
}

// forgetGuest forgets what the server of a guest knew that is gone.
func (o *owner) forgetGuest(origin string) {
	if origin == "" || o.spec.Workspace == "" || o.svc.Config.Workspaces == nil {
		return
	}
	ctx, cancel := o.svc.bounded()
	defer cancel()
	o.svc.Config.Workspaces.Forget(ctx, origin)
}

// sweepWorkspaces removes what an earlier aegisd has left of machines.
func (s *Service) sweepWorkspaces(ctx context.Context, guests map[string]bool) {
	if s.Config.Workspaces != nil {
		s.Config.Workspaces.Sweep(ctx, func(machine string) bool { return guests[machine] })
	}
}

// eraseWorkspace removes the workspace that goes with its instance.
func (o *owner) eraseWorkspace() error {
	if o.spec.Workspace != door.Auto || o.svc.Config.Workspaces == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(o.svc.ctx, removalTimeout)
	defer cancel()
	if err := o.svc.Config.Workspaces.Remove(ctx, o.place()); err != nil && api.CodeOf(err) != api.NotFound {
		return err
	}
	return nil
}

// Workspaces implements api.Aegis.
func (s *Service) Workspaces(ctx context.Context) ([]api.Workspace, error) {
	if s.Config.Workspaces == nil {
		return nil, errNoWorkspaces()
	}
	all, err := s.Config.Workspaces.List()
	if err != nil {
		return nil, atBoundary(err)
	}
	instances, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	users := map[workspaces.Place][]string{}
	for _, in := range instances {
		p := workspaces.PlaceOf(in.OwnerUID, in.Workspace, in.ID)
		users[p] = append(users[p], in.ID)
	}
	for i, w := range all {
		all[i].Instances = users[workspaces.Place{Owner: w.OwnerUID, Folder: w.Name}]
	}
	return all, nil
}

// removalTimeout bounds the removal of a workspace, which may be large.
const removalTimeout = 10 * time.Minute

// RemoveWorkspace implements api.Aegis. Each user may have one of the name:
// the caller's is meant, and for root the only one there is.
func (s *Service) RemoveWorkspace(ctx context.Context, who api.Caller, name string) error {
	if s.Config.Workspaces == nil {
		return errNoWorkspaces()
	}
	if err := door.CheckName(name); err != nil {
		return err
	}
	all, err := s.Workspaces(ctx)
	if err != nil {
		return err
	}
	w, err := choose(all, who, name)
	if err != nil {
		return err
	}
	return s.removeWorkspace(ctx, workspaces.Place{Owner: w.OwnerUID, Folder: name})
}

// choose finds the workspace that a caller means by a name.
func choose(all []api.Workspace, who api.Caller, name string) (api.Workspace, error) {
	all = slices.DeleteFunc(slices.Clone(all), func(w api.Workspace) bool { return w.Name != name })
	own := slices.IndexFunc(all, func(w api.Workspace) bool { return w.OwnerUID == who.UID })
	switch {
	case own >= 0:
		return all[own], nil
	case len(all) == 0:
		return api.Workspace{}, api.Errorf(api.NotFound, "no workspace %q: see `aegis workspace list`", name)
	case who.UID != 0:
		return api.Workspace{}, api.Errorf(api.Denied, "workspace %q is uid %d's: ask them to remove it", name, all[0].OwnerUID)
	case len(all) > 1:
		return api.Workspace{}, api.Errorf(api.BadState, "workspace %q: %d users have one of that name: remove it as one of them", name, len(all))
	}
	return all[0], nil
}

// removeWorkspace removes a workspace that no instance has. Nobody may be
// given it meanwhile.
func (s *Service) removeWorkspace(ctx context.Context, p workspaces.Place) error {
	s.admission.Lock()
	defer s.admission.Unlock()
	all, err := s.Workspaces(ctx)
	if err != nil {
		return err
	}
	for _, w := range all {
		if w.Name == p.Folder && w.OwnerUID == p.Owner && len(w.Instances) > 0 {
			return api.Errorf(api.BadState, "workspace %q is that of instance %s: delete that first", w.Name, w.Instances[0])
		}
	}
	ctx, cancel := context.WithTimeout(ctx, removalTimeout)
	defer cancel()
	return atBoundary(s.Config.Workspaces.Remove(ctx, p))
}

// PruneWorkspaces implements api.Aegis. Root's are all.
func (s *Service) PruneWorkspaces(ctx context.Context, who api.Caller, dryRun bool) ([]api.Workspace, error) {
	all, err := s.Workspaces(ctx)
	if err != nil {
		return nil, err
	}
	pruned := []api.Workspace{}
	for _, w := range all {
		if len(w.Instances) > 0 || who.UID != 0 && who.UID != w.OwnerUID {
			continue
		}
		if !dryRun {
			err := s.removeWorkspace(ctx, workspaces.Place{Owner: w.OwnerUID, Folder: w.Name})
			if code := api.CodeOf(err); code == api.BadState || code == api.NotFound {
				continue // somebody was quicker
			}
			if err != nil {
				return pruned, err
			}
		}
		pruned = append(pruned, w)
	}
	return pruned, nil
}
