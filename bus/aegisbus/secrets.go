package aegisbus

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
)

// valueTimeout is how long a caller may take to write a value that it passed
// the other end of.
const valueTimeout = 10 * time.Second

// secretMethods are the root's methods of secrets.
func (s *Server) secretMethods() bus.Methods {
	return bus.Methods{
		"SetSecret":   s.setSecret,
		"ListSecrets": s.listSecrets,
		"DeleteSecret": func(ctx context.Context, _ *bus.Request, name string) error {
			return s.aegis.DeleteSecret(ctx, name)
		},
		"RotateKey": func(ctx context.Context, _ *bus.Request) error { return s.aegis.RotateKey(ctx) },
	}
}

func (s *Server) setSecret(ctx context.Context, r *bus.Request, name string, value dbus.UnixFD) (bus.Dict, error) {
	text, err := readValue(r.File(value))
	if err != nil {
		return nil, err
	}
	sec, err := s.aegis.SetSecret(ctx, name, text)
	return dict(sec, err)
}

func (s *Server) listSecrets(ctx context.Context, _ *bus.Request) ([]bus.Dict, error) {
	all, err := s.aegis.Secrets(ctx)
	return bus.ToDicts(all, err)
}

// readValue reads what a caller passed to its end. Pipes and sockets are given
// a deadline, files are read from their beginning.
func readValue(passed *os.File) (string, error) {
	f, err := pollable(passed)
	if err != nil {
		return "", api.Errorf(api.InvalidArgument, "value: %w: expected a pipe or a memfd", err)
	}
	defer f.Close()
	f.Seek(0, io.SeekStart)                         // what cannot seek is at its beginning
	f.SetReadDeadline(time.Now().Add(valueTimeout)) // what has no deadline does not wait
	text, err := io.ReadAll(io.LimitReader(f, api.MaxSecret+1))
	if err != nil {
		return "", api.Errorf(api.InvalidArgument, "value: it could not be read to its end: %w", err)
	}
	return string(text), nil
}

// pollable makes a copy of a file that Go's poller waits for.
func pollable(passed *os.File) (*os.File, error) {
	if passed == nil {
		return nil, errors.New("no descriptor came with the call")
	}
	raw, err := passed.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd, failed := -1, error(nil)
	err = raw.Control(func(old uintptr) {
		if fd, failed = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0); failed == nil {
			failed = unix.SetNonblock(fd, true)
		}
	})
	if err = errors.Join(err, failed); err != nil {
		if fd >= 0 {
			unix.Close(fd)
		}
		return nil, err
	}
	return os.NewFile(uintptr(fd), "value"), nil
}

// SetSecret implements api.Aegis. The value goes through a pipe.
func (c *Client) SetSecret(ctx context.Context, name, value string) (sec api.Secret, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return sec, api.Errorf(api.Internal, "passing the value: %w", err)
	}
	go func() { // ends with the pipe: aegisd reads it or both ends of it are closed
		defer w.Close()
		io.WriteString(w, value)
	}()
	defer r.Close()
	fd, err := bus.FD(r)
	if err != nil {
		return sec, api.Errorf(api.Internal, "passing the value: %w", err)
	}
	var d bus.Dict
	if err := c.call(ctx, "SetSecret", bus.Args{name, fd}, &d); err != nil {
		return sec, err
	}
	return sec, fromDict(d, &sec)
}

// Secrets implements api.Aegis.
func (c *Client) Secrets(ctx context.Context) ([]api.Secret, error) {
	return list[api.Secret](ctx, c, "ListSecrets")
}

// DeleteSecret implements api.Aegis.
func (c *Client) DeleteSecret(ctx context.Context, name string) error {
	return c.call(ctx, "DeleteSecret", bus.Args{name})
}

// RotateKey implements api.Aegis.
func (c *Client) RotateKey(ctx context.Context) error {
	return c.call(ctx, "RotateKey", nil)
}
