package bus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"runtime"

	"github.com/godbus/dbus/v5"

	"github.com/xfeldman/aegisvm/api"
)

// Args are the in-arguments of a call. A *os.File travels as a descriptor and
// stays the caller's.
type Args []any

// Object is one interface of one object of another connection.
type Object struct {
	conn        *Conn
	dest, iface string
	path        dbus.ObjectPath
}

// Object names an interface of an object; it does no I/O.
func (c *Conn) Object(dest string, path dbus.ObjectPath, iface string) Object {
	return Object{conn: c, dest: dest, path: path, iface: iface}
}

// Call calls a method and stores its out-arguments in results, which are
// pointers; a **os.File takes a descriptor. Without a deadline in ctx it ends
// after Timeout. Errors are those of FromError; when ctx ended first, the
// error wraps ctx.Err(), and descriptors of a late reply are closed.
func (o Object) Call(ctx context.Context, member string, args Args, results ...any) error {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	body, err := lowerArgs(args)
	if err != nil {
		return api.Errorf(api.InvalidArgument, "calling %s.%s: %w", o.iface, member, err)
	}
	// The call's own context is not ours: a call that godbus has given up
	// drops its late reply, and the descriptors in it would leak.
	call := o.conn.raw.Object(o.dest, o.path).GoWithContext(context.WithoutCancel(ctx), o.iface+"."+member, 0, make(chan *dbus.Call, 1), body...)
	runtime.KeepAlive(args)
	select {
	case <-call.Done:
	case <-ctx.Done():
		go closeLate(call)
		return o.gaveUp(ctx, member)
	}
	if call.Err != nil {
		return o.failed(member, call.Err)
	}
	if err := store(call.Body, results); err != nil {
		return api.Errorf(api.Internal, "reading the reply of %s.%s: %w", o.iface, member, err)
	}
	return nil
}

// Get reads one property.
func (o Object) Get(ctx context.Context, property string, result any) error {
	var v dbus.Variant
	p := o.conn.Object(o.dest, o.path, propertiesInterface)
	if err := p.Call(ctx, "Get", Args{o.iface, property}, &v); err != nil {
		return err
	}
	return v.Store(result)
}

// closeLate owns a call that nobody waits for any more. It ends with the
// reply or with the connection.
func closeLate(call *dbus.Call) {
	<-call.Done
	closeAll(call.Body)
}

// failed names the service that went away during a call, which the bus does
// not.
func (o Object) failed(member string, err error) error {
	var e dbus.Error
	if errors.As(err, &e) && e.Name == "org.freedesktop.DBus.Error.NoReply" {
		return api.Errorf(api.Unavailable, "%s went away before it answered %s: see its log and try again", o.dest, member)
	}
	return FromError(err)
}

func (o Object) gaveUp(ctx context.Context, member string) error {
	err := ctx.Err()
	if errors.Is(err, context.DeadlineExceeded) {
		return api.Errorf(api.Unavailable, "%s did not answer %s in time: %w", o.dest, member, err)
	}
	return fmt.Errorf("calling %s.%s: %w", o.iface, member, err)
}

func withTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, Timeout)
}

// lowerArgs replaces files by descriptors.
func lowerArgs(args Args) ([]any, error) {
	body := make([]any, len(args))
	for i, a := range args {
		f, ok := a.(*os.File)
		if !ok {
			body[i] = a
			continue
		}
		fd, err := FD(f)
		if err != nil {
			return nil, err
		}
		body[i] = fd
	}
	return body, nil
}

// store copies a reply's body into results and, on failure, closes the
// descriptors that nobody will ever own.
func store(body []any, results []any) error {
	if len(results) == 0 {
		closeAll(body)
		return nil
	}
	lowered := make([]any, len(results))
	for i, r := range results {
		lowered[i] = r
		if _, ok := r.(**os.File); ok {
			lowered[i] = new(dbus.UnixFD)
		}
	}
	if err := storeSafely(body, lowered); err != nil {
		closeAll(body)
		return err
	}
	for i, r := range results {
		if p, ok := r.(**os.File); ok {
			*p = File(*lowered[i].(*dbus.UnixFD), "bus")
		}
	}
	return nil
}

// storeSafely is dbus.Store without its panic on hostile types, and without
// its readiness to take a number for a descriptor.
func storeSafely(body, results []any) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("unexpected types: %v", p)
		}
	}()
	for i := range min(len(body), len(results)) {
		_, sent := body[i].(dbus.UnixFD)
		if _, wanted := results[i].(*dbus.UnixFD); sent != wanted {
			return fmt.Errorf("result %d is a %T, stored in a %T", i+1, body[i], results[i])
		}
	}
	return dbus.Store(body, results...)
}

// bodySignature is the signature of a list of values; an error names a value
// that has none.
func bodySignature(types []reflect.Type) (sig string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("type without a D-Bus signature: %v", p)
		}
	}()
	for _, t := range types {
		sig += dbus.SignatureOfType(t).String()
	}
	return sig, nil
}
