package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"
)

// The units of aegisd, in the order in which they are stopped: the socket
// first, or it would start the service again.
const (
	socketUnit  = "aegisd.socket"
	serviceUnit = "aegisd.service"
)

// jobTimeout is how long systemd may take for one unit, the answer to a
// question for a password included.
const jobTimeout = 2 * time.Minute

// System is the system's aegisd, kept by systemd.
type System struct{}

// Start starts aegisd.socket; the first call of a client starts aegisd.
func (System) Start(ctx context.Context) error {
	return withSystemd(ctx, func(ctx context.Context, s *systemd) error {
		return s.job(ctx, "StartUnit", socketUnit)
	})
}

// Stop stops the socket and the service. Machines are not touched.
func (System) Stop(ctx context.Context) error {
	return withSystemd(ctx, func(ctx context.Context, s *systemd) error {
		if err := s.job(ctx, "StopUnit", socketUnit); err != nil {
			return err
		}
		return s.job(ctx, "StopUnit", serviceUnit)
	})
}

// systemd is a connection to the manager of the system's units.
type systemd struct {
	conn *dbus.Conn
	done chan *dbus.Signal // JobRemoved
}

const manager = "org.freedesktop.systemd1.Manager"

func withSystemd(ctx context.Context, do func(context.Context, *systemd) error) error {
	ctx, cancel := context.WithTimeout(ctx, jobTimeout)
	defer cancel()
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("connecting to the system bus: %w", err)
	}
	defer conn.Close()
	s := &systemd{conn: conn, done: make(chan *dbus.Signal, 64)}
	conn.Signal(s.done)
	err = conn.AddMatchSignalContext(ctx, dbus.WithMatchInterface(manager), dbus.WithMatchMember("JobRemoved"))
	if err == nil {
		err = s.call(ctx, "Subscribe").Err
	}
	if err != nil {
		return fmt.Errorf("asking systemd: %w", err)
	}
	return do(ctx, s)
}

// call makes a call for which polkit may ask the user for authorization. The
// message is put together here because godbus's own Call drops that flag.
func (s *systemd) call(ctx context.Context, method string, args ...any) *dbus.Call {
	msg := &dbus.Message{
		Type:  dbus.TypeMethodCall,
		Flags: dbus.FlagAllowInteractiveAuthorization,
		Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldDestination: dbus.MakeVariant("org.freedesktop.systemd1"),
			dbus.FieldPath:        dbus.MakeVariant(dbus.ObjectPath("/org/freedesktop/systemd1")),
			dbus.FieldInterface:   dbus.MakeVariant(manager),
			dbus.FieldMember:      dbus.MakeVariant(method),
		},
		Body: args,
	}
	if len(args) > 0 {
		msg.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(args...))
	}
	return <-s.conn.SendWithContext(ctx, msg, make(chan *dbus.Call, 1)).Done
}

// job has systemd do something with a unit and waits until it is done.
func (s *systemd) job(ctx context.Context, method, unit string) error {
	var job dbus.ObjectPath
	err := s.call(ctx, method, unit, "replace").Store(&job)
	if err != nil {
		return refused(method, unit, err)
	}
	for {
		select {
		case sig, more := <-s.done:
			if !more {
				return fmt.Errorf("%s of %s: the system bus went away", method, unit)
			}
			var id uint32
			var path dbus.ObjectPath
			var name, result string
			if dbus.Store(sig.Body, &id, &path, &name, &result) != nil || path != job {
				continue
			}
			if result != "done" {
				return fmt.Errorf("%s of %s: %s: see systemctl status %s", method, unit, result, unit)
			}
			return nil
		case <-s.conn.Context().Done():
			if ctx.Err() == nil {
				return fmt.Errorf("%s of %s: the system bus went away", method, unit)
			}
			return fmt.Errorf("%s of %s: %w", method, unit, context.Cause(ctx))
		}
	}
}

// refused explains why systemd did not take a job.
func refused(method, unit string, err error) error {
	var e dbus.Error
	if errors.As(err, &e) {
		switch e.Name {
		case "org.freedesktop.DBus.Error.AccessDenied", "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired":
			return fmt.Errorf("%s of %s was not authorized: run it as root, such as with sudo", method, unit)
		}
	}
	return fmt.Errorf("%s of %s: %w", method, unit, err)
}
