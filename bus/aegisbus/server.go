package aegisbus

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"

	"github.com/godbus/dbus/v5"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
)

// Server is an api.Aegis on the bus.
type Server struct {
	aegis   api.Aegis
	conn    *bus.Conn
	log     *slog.Logger
	root    *bus.Exported
	objects map[string]*bus.Exported // by instance; the follower's own
}

// Serve exports aegis with its instances on conn, claims the name
// org.aegisvm.Aegis1 and keeps the objects up to date until ctx or the
// connection ends. ready, if not nil, is called once the name is claimed; more
// are interfaces that the root has beside its own.
func Serve(ctx context.Context, conn *bus.Conn, aegis api.Aegis, version string, log *slog.Logger, ready func(), more ...bus.Interface) error {
	s := &Server{aegis: aegis, conn: conn, log: log.With("component", "aegisbus"), objects: map[string]*bus.Exported{}}
	conn.ManageObjects(bus.AegisPath)
	own := bus.Interface{
		Name: bus.AegisManager, Methods: s.methods(), Properties: bus.Properties{"Version": version},
	}
	root, err := conn.Export(bus.AegisPath, append([]bus.Interface{own}, more...)...)
	if err != nil {
		return err
	}
	s.root = root
	defer s.unexport()
	events, err := s.resync(ctx)
	if err != nil {
		return err
	}
	if err := conn.Claim(ctx, bus.AegisName); err != nil {
		return err
	}
	if ready != nil {
		ready()
	}
	return s.follow(ctx, events)
}

func (s *Server) unexport() {
	for _, o := range s.objects {
		o.Unexport()
	}
	s.root.Unexport()
}

// methods are all those of the root.
func (s *Server) methods() bus.Methods {
	all := bus.Methods{}
	for _, part := range []bus.Methods{
		s.instanceMethods(), s.lifeMethods(), s.execMethods(), s.logMethods(), s.copyMethods(),
		s.imageMethods(), s.workspaceMethods(), s.fileMethods(), s.secretMethods(), s.portMethods(), s.networkMethods(),
	} {
		maps.Copy(all, part)
	}
	return all
}

// instanceMethods are the root's methods of the main job.
func (s *Server) instanceMethods() bus.Methods {
	return bus.Methods{
		"CreateInstance": s.create,
		"GetInstance": func(ctx context.Context, _ *bus.Request, ref string) (dbus.ObjectPath, bus.Dict, error) {
			in, err := s.aegis.Get(ctx, ref)
			return described(in, err)
		},
		"ListInstances": s.list,
		"StartInstance": func(ctx context.Context, _ *bus.Request, ref string) (bus.Dict, error) {
			in, err := s.aegis.Start(ctx, ref)
			return dict(in, err)
		},
		"StopInstance": func(ctx context.Context, _ *bus.Request, ref string) (bus.Dict, error) {
			in, err := s.aegis.Stop(ctx, ref)
			return dict(in, err)
		},
		"DeleteInstance": func(ctx context.Context, _ *bus.Request, ref string) error {
			return s.aegis.Delete(ctx, ref)
		},
		"SignalInstance": func(ctx context.Context, _ *bus.Request, ref string, signal int32) error {
			return s.aegis.Signal(ctx, ref, int(signal))
		},
		"AttachInstance": s.attach,
		"RejoinInstance": s.rejoin,
		"UseSecrets":     s.useSecrets,
		"GetStatus": func(ctx context.Context, _ *bus.Request) (bus.Dict, error) {
			st, err := s.aegis.Status(ctx)
			return dict(st, err)
		},
	}
}

func (s *Server) create(ctx context.Context, r *bus.Request, text string) (dbus.ObjectPath, bus.Dict, error) {
	var spec api.InstanceSpec
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.DisallowUnknownFields()
	err := d.Decode(&spec)
	if _, end := d.Token(); err == nil && end != io.EOF {
		err = api.Errorf(api.InvalidArgument, "more than one JSON value")
	}
	if err != nil {
		return "/", nil, api.Errorf(api.InvalidArgument, "spec: %w: expected one JSON object as POST /v1/instances takes it", err)
	}
	who, err := r.Caller(ctx)
	if err != nil {
		return "/", nil, err
	}
	in, err := s.aegis.Create(ctx, who, spec)
	return described(in, err)
}

func (s *Server) list(ctx context.Context, _ *bus.Request) ([]bus.Dict, error) {
	all, err := s.aegis.List(ctx)
	return bus.ToDicts(all, err)
}

// attach answers with the streams of an instance.
func (s *Server) attach(ctx context.Context, r *bus.Request, ref string) (which uint32, in, out, errs, status, session, tty dbus.UnixFD, err error) {
	streams, err := s.streamsWhile(ctx, r, func(ctx context.Context) (*api.Streams, error) { return s.aegis.Attach(ctx, ref) })
	return send(r, streams, err)
}

// streamsWhile waits for streams as long as the caller is on the bus.
func (s *Server) streamsWhile(ctx context.Context, r *bus.Request, wait func(context.Context) (*api.Streams, error)) (*api.Streams, error) {
	ctx, cancel, err := s.whileCaller(ctx, r)
	if err != nil {
		return nil, err
	}
	defer cancel()
	return wait(ctx)
}

// whileCaller gives a context that ends when the caller leaves the bus.
func (s *Server) whileCaller(ctx context.Context, r *bus.Request) (context.Context, context.CancelFunc, error) {
	ctx, cancel := context.WithCancel(ctx)
	gone, err := s.conn.SubscribeOwner(ctx, r.Sender)
	if err != nil {
		cancel()
		return nil, nil, err
	}
	go func() { // ends with ctx
		if _, left := <-gone.C; left {
			cancel()
		}
	}()
	return ctx, cancel, nil
}

func described(in api.Instance, err error) (dbus.ObjectPath, bus.Dict, error) {
	d, err := dict(in, err)
	return path(in.ID), d, err
}

func dict(v any, err error) (bus.Dict, error) {
	if err != nil {
		return nil, err
	}
	return bus.ToDict(v)
}

func path(id string) dbus.ObjectPath { return bus.Child(bus.AegisPath, "instance", id) }
