package aegisbus

import (
	"context"
	"os"

	"github.com/godbus/dbus/v5"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
)

// fileMethods are the root's methods of api.Files.
func (s *Server) fileMethods() bus.Methods {
	return bus.Methods{
		"ListWorkspaceFolder": func(ctx context.Context, r *bus.Request, ref, path string) (all []bus.Dict, err error) {
			err = s.forCaller(ctx, r, func(ctx context.Context, who api.Caller) error {
				entries, err := s.aegis.Tree(ctx, who, ref, path)
				all, err = bus.ToDicts(entries, err)
				return err
			})
			return all, err
		},
		"ReadWorkspaceFile": func(ctx context.Context, r *bus.Request, ref, path string) (fd dbus.UnixFD, err error) {
			err = s.forCaller(ctx, r, func(ctx context.Context, who api.Caller) error {
				f, err := s.aegis.ReadFile(ctx, who, ref, path)
				fd = r.Send(f)
				return err
			})
			return fd, err
		},
		"WriteWorkspaceFile": func(ctx context.Context, r *bus.Request, ref, path string, data dbus.UnixFD) error {
			return s.forCaller(ctx, r, func(ctx context.Context, who api.Caller) error {
				return s.aegis.WriteFile(ctx, who, ref, path, r.File(data))
			})
		},
		"PutWorkspaceBlob": func(ctx context.Context, r *bus.Request, ref, mediaType string, data dbus.UnixFD) (d bus.Dict, err error) {
			err = s.forCaller(ctx, r, func(ctx context.Context, who api.Caller) error {
				blob, err := s.aegis.PutBlob(ctx, who, ref, mediaType, r.File(data))
				d, err = dict(blob, err)
				return err
			})
			return d, err
		},
	}
}

// forCaller makes a call for who asks, as long as they are on the bus.
func (s *Server) forCaller(ctx context.Context, r *bus.Request, call func(context.Context, api.Caller) error) error {
	who, err := r.Caller(ctx)
	if err != nil {
		return err
	}
	ctx, cancel, err := s.whileCaller(ctx, r)
	if err != nil {
		return err
	}
	defer cancel()
	return call(ctx, who)
}

// Tree implements api.Aegis. The caller is known to the server.
func (c *Client) Tree(ctx context.Context, _ api.Caller, ref, path string) ([]api.FileEntry, error) {
	return list[api.FileEntry](ctx, c, "ListWorkspaceFolder", ref, path)
}

// ReadFile implements api.Aegis. The caller is known to the server.
func (c *Client) ReadFile(ctx context.Context, _ api.Caller, ref, path string) (f *os.File, err error) {
	return f, c.call(ctx, "ReadWorkspaceFile", bus.Args{ref, path}, &f)
}

// WriteFile implements api.Aegis. The caller is known to the server.
func (c *Client) WriteFile(ctx context.Context, _ api.Caller, ref, path string, data *os.File) error {
	return c.call(ctx, "WriteWorkspaceFile", bus.Args{ref, path, data})
}

// PutBlob implements api.Aegis. The caller is known to the server.
func (c *Client) PutBlob(ctx context.Context, _ api.Caller, ref, mediaType string, data *os.File) (blob api.Blob, err error) {
	var d bus.Dict
	if err := c.call(ctx, "PutWorkspaceBlob", bus.Args{ref, mediaType, data}, &d); err != nil {
		return blob, err
	}
	return blob, fromDict(d, &blob)
}
