package aegisbus

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math"

	"github.com/godbus/dbus/v5"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
)

// execMethods are the root's methods of execs.
func (s *Server) execMethods() bus.Methods {
	return bus.Methods{
		"ExecInstance": s.exec,
		"ReattachExec": func(ctx context.Context, r *bus.Request, ref, id string) (which uint32, in, out, errs, status, session, tty dbus.UnixFD, err error) {
			streams, err := s.streamsWhile(ctx, r, func(ctx context.Context) (*api.Streams, error) { return s.aegis.ReattachExec(ctx, ref, id) })
			return send(r, streams, err)
		},
		"ResizeExec": func(ctx context.Context, _ *bus.Request, ref, id string, rows, cols uint32) error {
			return s.aegis.ResizeExec(ctx, ref, id, int(rows), int(cols))
		},
		"SignalExec": func(ctx context.Context, _ *bus.Request, ref, id string, signal int32) error {
			return s.aegis.SignalExec(ctx, ref, id, int(signal))
		},
		"ListExecs": s.listExecs,
	}
}

func (s *Server) exec(ctx context.Context, r *bus.Request, ref, text string) (id string, which uint32, in, out, errs, status, session, tty dbus.UnixFD, err error) {
	var spec api.ExecSpec
	var streams *api.Streams
	if err = decodeStrictly(text, &spec); err == nil {
		streams, err = s.streamsWhile(ctx, r, func(ctx context.Context) (streams *api.Streams, err error) {
			id, streams, err = s.aegis.Exec(ctx, ref, spec)
			return streams, err
		})
	}
	which, in, out, errs, status, session, tty, err = send(r, streams, err)
	return id, which, in, out, errs, status, session, tty, err
}

func (s *Server) listExecs(ctx context.Context, _ *bus.Request, ref string) ([]bus.Dict, error) {
	all, err := s.aegis.Execs(ctx, ref)
	return bus.ToDicts(all, err)
}

// decodeStrictly reads the JSON text of a spec and nothing after it.
func decodeStrictly(text string, spec any) error {
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.DisallowUnknownFields()
	err := d.Decode(spec)
	if _, end := d.Token(); err == nil && end != io.EOF {
		err = api.Errorf(api.InvalidArgument, "more than one JSON value")
	}
	if err != nil {
		return api.Errorf(api.InvalidArgument, "spec: %w: expected one JSON object as REST takes it", err)
	}
	return nil
}

// Exec implements api.Aegis.
func (c *Client) Exec(ctx context.Context, ref string, spec api.ExecSpec) (id string, streams *api.Streams, err error) {
	text, err := json.Marshal(spec)
	if err != nil {
		return "", nil, api.Errorf(api.InvalidArgument, "spec: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	streams, err = c.streams(ctx, "ExecInstance", bus.Args{ref, string(text)}, &id)
	if err != nil || spec.Detach {
		return id, nil, err
	}
	return id, streams, nil
}

// ReattachExec implements api.Aegis.
func (c *Client) ReattachExec(ctx context.Context, ref, id string) (*api.Streams, error) {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	return c.streams(ctx, "ReattachExec", bus.Args{ref, id})
}

// ResizeExec implements api.Aegis. What cannot be said is refused here.
func (c *Client) ResizeExec(ctx context.Context, ref, id string, rows, cols int) error {
	if rows < 0 || cols < 0 || rows > math.MaxInt32 || cols > math.MaxInt32 {
		return api.Errorf(api.InvalidArgument, "terminal of %d rows and %d columns: expected 0 to %d of each", rows, cols, math.MaxUint16)
	}
	return c.call(ctx, "ResizeExec", bus.Args{ref, id, uint32(rows), uint32(cols)})
}

// SignalExec implements api.Aegis.
func (c *Client) SignalExec(ctx context.Context, ref, id string, signal int) error {
	return c.call(ctx, "SignalExec", bus.Args{ref, id, int32(signal)})
}

// Execs implements api.Aegis.
func (c *Client) Execs(ctx context.Context, ref string) ([]api.ExecInfo, error) {
	return list[api.ExecInfo](ctx, c, "ListExecs", ref)
}
