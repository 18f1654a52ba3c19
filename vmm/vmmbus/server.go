// Package vmmbus carries vmm.Manager over D-Bus: Serve exports one as
// org.aegisvm.Vmm1, and Client is one that calls it. Neither decides anything
// about machines; what may be asked, and by whom, is in bus/xml and in Allow.
package vmmbus

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/vmm"
)

// Manager is what is exported: a vmm.Manager that can also ask a guest to
// leave in order.
type Manager interface {
	vmm.Manager
	Shutdown(ctx context.Context, id string) error
}

// wireDisk is one disk in a(sbh).
type wireDisk struct {
	Role     string
	ReadOnly bool
	File     dbus.UnixFD
}

// wireSpec is the part of a vmm.Spec that travels as a{sv}.
type wireSpec struct {
	MemoryMiB      int    `json:"memory_mib"`
	VCPUs          int    `json:"vcpus"`
	Network        string `json:"network,omitempty"`
	ReadyTimeoutMS int64  `json:"ready_timeout_ms,omitempty"`
	Restore        string `json:"restore,omitempty"`
}

// Server exports one manager.
type Server struct {
	conn    *bus.Conn
	manager Manager
	allow   bus.Authorizer
	root    *bus.Exported

	mu       sync.Mutex // guards the fields below; held while signals are sent
	sequence uint64
	machines map[string]*exported
}

// exported is one machine on the bus.
type exported struct {
	info   vmm.Info
	object *bus.Exported
}

// Serve exports m on conn for root and the given users, claims the name and
// serves until ctx, the connection or the manager's watch ends. ready is
// called when callers are served.
func Serve(ctx context.Context, conn *bus.Conn, m Manager, uids []uint32, ready func() error) error {
	s := &Server{conn: conn, manager: m, allow: bus.AllowUIDs(uids...), machines: make(map[string]*exported)}
	conn.ManageObjects(bus.VmmPath)
	var err error
	s.root, err = conn.Export(bus.VmmPath, bus.Interface{Name: bus.VmmManager, Allow: s.allow, Methods: s.methods()})
	if err != nil {
		return err
	}
	// All machines are on the bus before the name is: a client that sees the
	// name must not take a machine for lost.
	if err := s.exportAll(ctx); err != nil {
		return err
	}
	changes, err := m.Watch(ctx)
	if err != nil {
		return err
	}
	if err := conn.Claim(ctx, bus.VmmName); err != nil {
		return err
	}
	if err := ready(); err != nil {
		return err
	}
	for {
		select {
		case i, ok := <-changes:
			if !ok {
				return ctx.Err()
			}
			if err := s.changed(ctx, i); err != nil {
				return err
			}
		case <-conn.Done():
			return api.Errorf(api.Unavailable, "the connection to the message bus is lost")
		}
	}
}

func (s *Server) exportAll(ctx context.Context) error {
	all, err := s.manager.List(ctx)
	if err != nil {
		return err
	}
	for _, i := range all {
		if err := s.changed(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) methods() bus.Methods {
	byID := func(do func(context.Context, string) error) any {
		return func(ctx context.Context, _ *bus.Request, id string) error { return do(ctx, id) }
	}
	return bus.Methods{
		"Start": s.start, "Get": s.get, "List": s.list, "Watch": s.watch,
		"Connect": socket(s.manager.Connect), "Dialer": socket(s.manager.Dialer), "Support": s.support, "Remove": s.remove,
		"Pause": byID(s.manager.Pause), "Resume": byID(s.manager.Resume),
		"Snapshot": s.snapshot, "Snapshots": s.snapshots, "RemoveSnapshot": byID(s.manager.RemoveSnapshot),
		"Stop": byID(s.manager.Stop), "Shutdown": byID(s.manager.Shutdown),
	}
}

func (s *Server) start(ctx context.Context, r *bus.Request, id string, spec bus.Dict, disks []wireDisk) (bus.Dict, error) {
	var w wireSpec
	if err := bus.FromDictStrict(spec, &w); err != nil {
		return nil, api.Errorf(api.InvalidArgument, "starting machine %q: %w", id, err)
	}
	v := vmm.Spec{
		ID: id, MemoryMiB: w.MemoryMiB, VCPUs: w.VCPUs, Network: w.Network, Restore: w.Restore,
		ReadyTimeout: time.Duration(w.ReadyTimeoutMS) * time.Millisecond,
	}
	for _, d := range disks {
		v.Disks = append(v.Disks, vmm.Disk{Role: vmm.Role(d.Role), ReadOnly: d.ReadOnly, File: r.File(d.File)})
	}
	info, err := s.manager.Start(ctx, v)
	if err != nil {
		if api.CodeOf(err) != api.Exists {
			s.drop(id)
		}
		return nil, err
	}
	return bus.ToDict(info)
}

func (s *Server) get(ctx context.Context, _ *bus.Request, id string) (bus.Dict, error) {
	i, err := s.manager.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	return bus.ToDict(i)
}

func (s *Server) list(ctx context.Context, _ *bus.Request) ([]bus.Dict, error) {
	all, err := s.manager.List(ctx)
	return bus.ToDicts(all, err)
}

func (s *Server) watch(context.Context, *bus.Request) (uint64, []bus.Dict, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []vmm.Info
	for _, x := range s.machines {
		all = append(all, x.info)
	}
	d, err := bus.ToDicts(all, nil)
	return s.sequence, d, err
}

// socket answers with a socket that leads to a port of a guest.
func socket(ask func(context.Context, string, uint32) (*os.File, error)) any {
	return func(ctx context.Context, r *bus.Request, id string, port uint32) (dbus.UnixFD, error) {
		f, err := ask(ctx, id, port)
		return r.Send(f), err
	}
}

func (s *Server) snapshot(ctx context.Context, _ *bus.Request, id, snapshot string) (bus.Dict, error) {
	saved, err := s.manager.Snapshot(ctx, id, snapshot)
	if err != nil {
		return nil, err
	}
	return bus.ToDict(saved)
}

func (s *Server) snapshots(ctx context.Context, _ *bus.Request) ([]bus.Dict, error) {
	all, err := s.manager.Snapshots(ctx)
	return bus.ToDicts(all, err)
}

func (s *Server) support(ctx context.Context, _ *bus.Request) (bus.Dict, error) {
	v, err := s.manager.Support(ctx)
	if err != nil {
		return nil, err
	}
	return bus.ToDict(v)
}

func (s *Server) remove(ctx context.Context, _ *bus.Request, id string) error {
	if err := s.manager.Remove(ctx, id); err != nil {
		return err
	}
	s.drop(id)
	return nil
}
