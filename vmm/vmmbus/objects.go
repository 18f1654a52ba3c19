package vmmbus

import (
	"context"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/vmm"
)

// changed puts a change of a machine on the bus: its object, its properties
// and the signal of the manager.
func (s *Server) changed(ctx context.Context, i vmm.Info) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.machines[i.ID]
	if x == nil {
		// Word of a machine whose start failed may come after it was dropped.
		if _, err := s.manager.Get(ctx, i.ID); api.CodeOf(err) == api.NotFound {
			return s.announce(i)
		}
	}
	if x != nil {
		x.info = i
		if err := x.object.Set(bus.VmmMachine, changing(i)); err != nil {
			return err
		}
		return s.announce(i)
	}
	object, err := s.conn.Export(bus.Child(bus.VmmPath, "machine", i.ID), s.table(i))
	if err != nil {
		return err
	}
	s.machines[i.ID] = &exported{info: i, object: object}
	return s.announce(i)
}

// announce sends MachineChanged; the caller holds mu.
func (s *Server) announce(i vmm.Info) error {
	d, err := bus.ToDict(i)
	if err != nil {
		return err
	}
	s.sequence++
	return s.root.Emit(bus.VmmManager, "MachineChanged", s.sequence, d)
}

// drop takes a machine that is no more off the bus.
func (s *Server) drop(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.machines[id]; x != nil {
		delete(s.machines, id)
		_ = x.object.Unexport() // fails only with the connection
	}
}

func (s *Server) table(i vmm.Info) bus.Interface {
	do := func(f func(context.Context, string) error) any {
		return func(ctx context.Context, _ *bus.Request) error { return f(ctx, i.ID) }
	}
	properties := bus.Properties{
		"Id": i.ID, "Driver": i.Driver, "Accel": i.Accel, "MemoryMiB": uint64(i.MemoryMiB), "VCPUs": uint32(i.VCPUs),
		"StartedUSec": uint64(i.Started.UnixMicro()),
	}
	for name, v := range changing(i) {
		properties[name] = v
	}
	return bus.Interface{
		Name: bus.VmmMachine, Allow: s.allow, Properties: properties,
		Methods: bus.Methods{
			"Pause": do(s.manager.Pause), "Resume": do(s.manager.Resume),
			"Stop": do(s.manager.Stop), "Shutdown": do(s.manager.Shutdown),
		},
	}
}

// changing are the properties that change in a machine's life.
func changing(i vmm.Info) bus.Properties {
	p := bus.Properties{
		"State": string(i.State), "Pid": uint32(i.Pid), "WorkerPid": uint32(i.WorkerPid), "ExitReason": "", "ExitDetail": "",
	}
	if i.Exit != nil {
		p["ExitReason"], p["ExitDetail"] = string(i.Exit.Reason), i.Exit.Detail
	}
	return p
}
