package instance

import (
	"context"
	"os"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/guestsession"
	"github.com/xfeldman/aegisvm/daemons/aegisd/workspaces"
	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/vmm"
)

// Workspaces keeps folders and serves them to guests; package workspaces has
// the real one.
type Workspaces interface {
	// Admit refuses a workspace that the owner cannot have.
	Admit(owner uint32, ref, instance string) error
	// Folder is where it is.
	Folder(ref, instance string) string
	// Serve serves a folder to a machine until ctx ends; an error is one that
	// stays.
	Serve(ctx context.Context, machine, folder string, dial func(context.Context) (*os.File, error)) error
	// Forget forgets a machine that is gone, Sweep all that are not there.
	Forget(machine string)
	Sweep(ctx context.Context, there func(machine string) bool)
	List() ([]api.Workspace, error)
	Remove(name string) error
}

func checkWorkspace(spec api.InstanceSpec) error { return workspaces.Check(spec.Workspace) }

// admitWorkspace refuses a workspace that the instance could not have.
func (s *Service) admitWorkspace(owner uint32, spec api.InstanceSpec, id string) error {
	switch {
	case spec.Workspace == "":
		return nil
	case s.Config.Workspaces == nil:
		return errNoWorkspaces()
	}
	return s.Config.Workspaces.Admit(owner, spec.Workspace, id)
}

func errNoWorkspaces() error {
	return api.Errorf(api.Unavailable, "this aegisd cannot serve workspaces yet: leave --workspace out, or use a standalone aegisd")
}

// serveWorkspace serves the workspace to the machine of a boot until that is
// being released, if it has one. failed is called if it cannot be served.
func (o *owner) serveWorkspace(b *boot, failed func(error)) {
	if o.spec.Workspace == "" || o.svc.Config.Workspaces == nil {
		return
	}
	folder := o.svc.Config.Workspaces.Folder(o.spec.Workspace, o.id)
	dial := func(ctx context.Context) (*os.File, error) {
		if err := o.awaitAwake(b); err != nil {
			return nil, err
		}
		return o.svc.Machines.Connect(ctx, b.machine, proto.PortWorkspace)
	}
	b.serving.Add(1)
	o.svc.tasks.Go(func() {
		defer b.serving.Done()
		if err := o.svc.Config.Workspaces.Serve(b.ctx, b.machine, folder, dial); err != nil {
			failed(err)
		}
	})
}

// mountWorkspace gives a guest its workspace before the program starts.
func (o *owner) mountWorkspace(b *boot, session *guestsession.Session) error {
	if o.spec.Workspace == "" {
		return nil
	}
	if err := o.svc.admitWorkspace(o.rec.OwnerUID, o.spec, o.id); err != nil {
		return err // it may have changed since the instance was made
	}
	ctx, cancel := context.WithCancelCause(b.ctx)
	defer cancel(nil)
	o.serveWorkspace(b, cancel)
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
	if o.svc.Config.Workspaces != nil {
		o.svc.Config.Workspaces.Forget(b.machine)
	}
}

// sweepWorkspaces removes what an earlier aegisd has left of machines.
func (s *Service) sweepWorkspaces(ctx context.Context, machines map[string]vmm.Info) {
	if s.Config.Workspaces != nil {
		s.Config.Workspaces.Sweep(ctx, func(machine string) bool { _, there := machines[machine]; return there })
	}
}

// eraseWorkspace removes the workspace that goes with its instance.
func (o *owner) eraseWorkspace() error {
	if o.spec.Workspace != workspaces.Auto || o.svc.Config.Workspaces == nil {
		return nil
	}
	if err := o.svc.Config.Workspaces.Remove(o.id); err != nil && api.CodeOf(err) != api.NotFound {
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
	users := map[string][]string{}
	for _, in := range instances {
		name := in.Workspace
		if name == workspaces.Auto {
			name = in.ID
		}
		users[name] = append(users[name], in.ID)
	}
	for i := range all {
		all[i].Instances = users[all[i].Name]
	}
	return all, nil
}

// RemoveWorkspace implements api.Aegis.
func (s *Service) RemoveWorkspace(ctx context.Context, who api.Caller, name string) error {
	if s.Config.Workspaces == nil {
		return errNoWorkspaces()
	}
	if err := workspaces.CheckName(name); err != nil {
		return err
	}
	// Nobody may be given the workspace meanwhile.
	s.admission.Lock()
	defer s.admission.Unlock()
	all, err := s.Workspaces(ctx)
	if err != nil {
		return err
	}
	for _, w := range all {
		switch {
		case w.Name != name:
		case who.UID != 0 && who.UID != w.OwnerUID:
			return api.Errorf(api.Denied, "workspace %q is uid %d's: ask them to remove it", name, w.OwnerUID)
		case len(w.Instances) > 0:
			return api.Errorf(api.BadState, "workspace %q is that of instance %s: delete that first", name, w.Instances[0])
		}
	}
	return atBoundary(s.Config.Workspaces.Remove(name))
}

// PruneWorkspaces implements api.Aegis.
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
			err := s.RemoveWorkspace(ctx, who, w.Name)
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
