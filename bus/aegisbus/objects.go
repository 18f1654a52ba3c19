package aegisbus

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
)

// follow turns events into objects, properties and signals. When the stream
// is lost it starts anew from the list, which shows in a gap of the numbers.
func (s *Server) follow(ctx context.Context, events <-chan api.Event) error {
	for {
		select {
		case <-s.conn.Done():
			if ctx.Err() != nil {
				return nil
			}
			return api.Errorf(api.Unavailable, "the connection to the message bus was lost")
		case <-ctx.Done():
			return nil
		case ev, more := <-events:
			if more {
				s.onEvent(ctx, ev)
				continue
			}
			if ctx.Err() != nil {
				return nil
			}
			fresh, err := s.resync(ctx)
			if err != nil {
				return err
			}
			events = fresh
		}
	}
}

// resync subscribes, then makes the objects agree with the list.
func (s *Server) resync(ctx context.Context) (<-chan api.Event, error) {
	events, err := s.aegis.Events(ctx)
	if err != nil {
		return nil, err
	}
	all, err := s.aegis.List(ctx)
	if err != nil {
		return nil, err
	}
	there := make(map[string]bool, len(all))
	for _, in := range all {
		there[in.ID] = true
		s.show(in)
	}
	for id := range s.objects {
		if !there[id] {
			s.hide(id)
		}
	}
	return events, nil
}

func (s *Server) onEvent(ctx context.Context, ev api.Event) {
	switch ev.Type {
	case api.EventProgress, api.EventExecStarted, api.EventExecEnded, api.EventDenied:
	case api.EventDeleted:
		s.hide(ev.Instance)
	default:
		if in, err := s.aegis.Get(ctx, ev.Instance); err == nil {
			s.show(in)
		}
	}
	d, err := bus.ToDict(ev)
	if err == nil {
		err = s.root.Emit(bus.AegisManager, "Event", d)
	}
	if err != nil {
		s.log.Warn("event not sent", "instance", ev.Instance, "error", err)
	}
}

// show exports an instance or updates its properties.
func (s *Server) show(in api.Instance) {
	var err error
	if o := s.objects[in.ID]; o != nil {
		err = o.Set(bus.AegisInstance, properties(in))
	} else if o, err = s.conn.Export(path(in.ID), s.object(in)); err == nil {
		s.objects[in.ID] = o
	}
	if err != nil {
		s.log.Error("object not shown", "instance", in.ID, "error", err)
	}
}

func (s *Server) hide(id string) {
	if o := s.objects[id]; o != nil {
		delete(s.objects, id)
		if err := o.Unexport(); err != nil {
			s.log.Warn("object not hidden", "instance", id, "error", err)
		}
	}
}

func (s *Server) object(in api.Instance) bus.Interface {
	id := in.ID
	return bus.Interface{
		Name: bus.AegisInstance, Properties: properties(in),
		Methods: s.withProgramsOf(id, s.withLifeOf(id, bus.Methods{
			"Start": func(ctx context.Context, _ *bus.Request) error {
				_, err := s.aegis.Start(ctx, id)
				return err
			},
			"Stop": func(ctx context.Context, _ *bus.Request) error {
				_, err := s.aegis.Stop(ctx, id)
				return err
			},
			"Delete": func(ctx context.Context, _ *bus.Request) error { return s.aegis.Delete(ctx, id) },
			"Signal": func(ctx context.Context, _ *bus.Request, signal int32) error {
				return s.aegis.Signal(ctx, id, int(signal))
			},
			"Attach": func(ctx context.Context, r *bus.Request) (which uint32, in, out, errs, status, session, tty dbus.UnixFD, err error) {
				return s.attach(ctx, r, id)
			},
		})),
	}
}

// withProgramsOf adds the methods for programs, files and the log of an
// instance to its others.
func (s *Server) withProgramsOf(id string, m bus.Methods) bus.Methods {
	for _, root := range []bus.Methods{s.execMethods(), s.copyMethods(), s.logMethods()} {
		for name, method := range root {
			m[strings.Replace(name, "Instance", "", 1)] = of(id, method)
		}
	}
	return m
}

// of makes a method of an instance of one of the root's, which is told the
// instance first.
func of(id string, method any) any {
	const place = 2 // behind the context and the request
	call := reflect.ValueOf(method)
	var in, out []reflect.Type
	for i := range call.Type().NumIn() {
		in = append(in, call.Type().In(i))
	}
	for i := range call.Type().NumOut() {
		out = append(out, call.Type().Out(i))
	}
	short := reflect.FuncOf(slices.Delete(in, place, place+1), out, false)
	return reflect.MakeFunc(short, func(args []reflect.Value) []reflect.Value {
		return call.Call(slices.Insert(args, place, reflect.ValueOf(id)))
	}).Interface()
}

func properties(in api.Instance) bus.Properties {
	code := int32(-1)
	if in.ExitCode != nil {
		code = int32(*in.ExitCode)
	}
	all := lifeProperties(in)
	maps.Copy(all, bus.Properties{
		"Id": in.ID, "Handle": in.Handle, "Command": in.Command, "OwnerUID": in.OwnerUID,
		"CreatedUSec": micros(&in.CreatedAt), "MemoryMiB": uint64(in.MemoryMB), "VCPUs": uint32(in.VCPUs),
		"ImageDigest": in.Digest, "State": string(in.State), "Phase": string(in.Phase), "Enabled": in.Enabled,
		"Machine": in.Machine, "LastError": in.LastError, "ExitCode": code, "ExitSignal": int32(in.ExitSignal),
		"StartedUSec": micros(in.StartedAt), "StoppedUSec": micros(in.StoppedAt),
	})
	return all
}

func micros(t *time.Time) uint64 {
	if t == nil {
		return 0
	}
	return uint64(t.UnixMicro())
}
