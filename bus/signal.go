package bus

import (
	"context"
	"fmt"
	"strings"

	"github.com/godbus/dbus/v5"
)

// Signal is one signal that a subscription got.
type Signal struct {
	Path dbus.ObjectPath
	// Interface and Member name the signal.
	Interface, Member string
	Body              []any
}

// Subscription delivers signals in the order of the bus. C is closed when the
// subscription's context or the connection has ended. A reader that is slow
// loses nothing; what waits is kept in memory.
type Subscription struct {
	C <-chan Signal
}

// Subscribe subscribes to one signal of this interface of this object, or
// with an empty path of all objects of the service, from now on: what is
// emitted after it has returned is delivered.
func (o Object) Subscribe(ctx context.Context, member string) (*Subscription, error) {
	rule := []dbus.MatchOption{dbus.WithMatchInterface(o.iface), dbus.WithMatchMember(member)}
	if o.path != "" {
		rule = append(rule, dbus.WithMatchObjectPath(o.path))
	}
	return o.conn.subscribe(ctx, o.dest, func(s *dbus.Signal) bool {
		return (o.path == "" || s.Path == o.path) && s.Name == o.iface+"."+member
	}, rule...)
}

// SubscribeBelow subscribes to all signals of the object and of those below
// it, including PropertiesChanged and those of ObjectManager.
func (o Object) SubscribeBelow(ctx context.Context) (*Subscription, error) {
	return o.conn.subscribe(ctx, o.dest, func(s *dbus.Signal) bool {
		return s.Path == o.path || below(o.path, s.Path)
	}, dbus.WithMatchPathNamespace(o.path))
}

// SubscribeOwner tells the new unique name of a well-known name's owner at
// each change, "" when it has none any more: a client uses it to notice that
// a service went or came back.
func (c *Conn) SubscribeOwner(ctx context.Context, name string) (*Subscription, error) {
	const member = "NameOwnerChanged"
	b := c.bus()
	return c.subscribe(ctx, b.dest, func(s *dbus.Signal) bool {
		return s.Name == b.iface+"."+member && len(s.Body) == 3 && s.Body[0] == name
	}, dbus.WithMatchInterface(b.iface), dbus.WithMatchMember(member), dbus.WithMatchArg(0, name))
}

// subscribe registers before it matches, so that no signal falls between.
func (c *Conn) subscribe(ctx context.Context, dest string, want func(*dbus.Signal) bool, rule ...dbus.MatchOption) (*Subscription, error) {
	in := make(chan *dbus.Signal)
	out := make(chan Signal)
	c.raw.Signal(in)
	rule = append(rule, dbus.WithMatchSender(dest))
	bounded, cancel := withTimeout(ctx)
	defer cancel()
	if err := c.raw.AddMatchSignalContext(bounded, rule...); err != nil {
		c.raw.RemoveSignal(in)
		return nil, fmt.Errorf("subscribing to %s: %w", dest, FromError(err))
	}
	from := sender{conn: c, name: dest, owner: dest}
	go func() {
		defer close(out)
		defer c.unsubscribe(in, rule)
		forward(ctx, in, out, func(s *dbus.Signal) bool { return want(s) && from.sent(ctx, s.Sender) })
	}()
	return &Subscription{C: out}, nil
}

func (c *Conn) unsubscribe(in chan *dbus.Signal, rule []dbus.MatchOption) {
	c.raw.RemoveSignal(in)
	ctx, cancel := context.WithTimeout(context.Background(), Timeout)
	defer cancel()
	_ = c.raw.RemoveMatchSignalContext(ctx, rule...) // fails only with the connection
}

// forward hands on wanted signals until ctx or the connection ends.
func forward(ctx context.Context, in <-chan *dbus.Signal, out chan<- Signal, want func(*dbus.Signal) bool) {
	for {
		select {
		case <-ctx.Done():
			return
		case s, ok := <-in:
			if !ok {
				return
			}
			if !want(s) {
				continue
			}
			dot := strings.LastIndexByte(s.Name, '.')
			select {
			case out <- Signal{Path: s.Path, Interface: s.Name[:dot], Member: s.Name[dot+1:], Body: s.Body}:
			case <-ctx.Done():
				return
			}
		}
	}
}

// sender knows who may send the signals of a well-known name. The bus
// delivers a signal that is addressed to us whatever the match rules say, so
// anybody could forge one.
type sender struct {
	conn        *Conn
	name, owner string
}

func (s *sender) sent(ctx context.Context, unique string) bool {
	if unique == s.owner {
		return true
	}
	var owner string
	if err := s.conn.bus().Call(ctx, "GetNameOwner", Args{s.name}, &owner); err != nil || owner != unique {
		return false
	}
	s.owner = owner
	return true
}
