package bus

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"sync"

	"github.com/godbus/dbus/v5"
)

// server answers incoming calls. It is the connection's whole godbus handler,
// because the one of godbus sends wrong error names and cannot tell when a
// reply is on its way.
type server struct {
	conn *Conn

	mu      sync.Mutex // guards the maps and the properties of all objects
	objects map[dbus.ObjectPath]*Exported
	managed map[dbus.ObjectPath]bool // roots with an ObjectManager

	// emit keeps PropertiesChanged in the order of the changes; it is taken
	// before mu and held while a signal is sent.
	emit sync.Mutex
}

func newServer(c *Conn) *server {
	return &server{conn: c, objects: make(map[dbus.ObjectPath]*Exported), managed: make(map[dbus.ObjectPath]bool)}
}

// LookupObject, LookupInterface and LookupMethod let every call through to
// method.Call, which decides itself.
func (s *server) LookupObject(dbus.ObjectPath) (dbus.ServerObject, bool) { return s, true }

// LookupInterface is part of godbus' Handler.
func (s *server) LookupInterface(string) (dbus.Interface, bool) { return s, true }

// LookupMethod is part of godbus' Handler.
func (s *server) LookupMethod(string) (dbus.Method, bool) { return &method{server: s}, true }

// method is one incoming call.
type method struct {
	server *server
	raw    *dbus.Conn
	msg    *dbus.Message
}

// NumArguments and the like are asked only by godbus' own decoder.
func (*method) NumArguments() int     { return 0 }
func (*method) NumReturns() int       { return 0 }
func (*method) ArgumentValue(int) any { return nil }
func (*method) ReturnValue(int) any   { return nil }

// DecodeArguments takes the message as it is.
func (m *method) DecodeArguments(raw *dbus.Conn, _ string, msg *dbus.Message, _ []any) ([]any, error) {
	copied := *msg
	m.raw, m.msg = raw, &copied
	msg.Flags |= dbus.FlagNoReplyExpected // the reply is ours to send
	return nil, nil
}

// Call answers the call and sends the reply itself, because descriptors in it
// may be closed only then.
func (m *method) Call(...any) ([]any, error) {
	r := &Request{
		Path: header[dbus.ObjectPath](m.msg, dbus.FieldPath), Sender: header[string](m.msg, dbus.FieldSender),
		conn: m.server.conn, received: make(map[dbus.UnixFD]*os.File),
	}
	r.adopt(m.msg.Body)
	defer r.done()
	select {
	case <-m.server.conn.dialed:
	case <-m.raw.Context().Done():
		return nil, nil
	}
	out, err := m.server.dispatch(m.raw.Context(), r, m.msg)
	if m.msg.Flags&dbus.FlagNoReplyExpected == 0 {
		m.raw.Send(reply(m.msg, r.Sender, out, err), nil)
	}
	runtime.KeepAlive(out)
	return nil, nil
}

func header[T any](msg *dbus.Message, field dbus.HeaderField) T {
	t, _ := msg.Headers[field].Value().(T)
	return t
}

func reply(to *dbus.Message, sender string, out []any, err error) *dbus.Message {
	msg := &dbus.Message{Type: dbus.TypeMethodReply, Body: out}
	msg.Headers = map[dbus.HeaderField]dbus.Variant{dbus.FieldReplySerial: dbus.MakeVariant(to.Serial())}
	if sender != "" {
		msg.Headers[dbus.FieldDestination] = dbus.MakeVariant(sender)
	}
	if err != nil {
		e := ToError(err)
		msg.Type, msg.Body = dbus.TypeError, e.Body
		msg.Headers[dbus.FieldErrorName] = dbus.MakeVariant(e.Name)
	}
	if len(msg.Body) > 0 {
		msg.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(msg.Body...))
	}
	return msg
}

func (s *server) dispatch(ctx context.Context, r *Request, msg *dbus.Message) ([]any, error) {
	iface, member := header[string](msg, dbus.FieldInterface), header[string](msg, dbus.FieldMember)
	if out, ok, err := s.standard(ctx, r, iface, msg); ok {
		return out, err
	}
	s.mu.Lock()
	obj := s.objects[r.Path]
	s.mu.Unlock()
	if obj == nil {
		return nil, unknownObject(r.Path)
	}
	i, err := obj.find(iface, member)
	if err != nil {
		return nil, err
	}
	if err := i.allow(ctx, r); err != nil {
		return nil, err
	}
	return call(ctx, r, i.Methods[member], msg)
}

func unknownObject(path dbus.ObjectPath) error {
	return protocolError(errUnknownObject, fmt.Sprintf("no such object: %s", path))
}

// call decodes the body into the handler's arguments and calls it.
func call(ctx context.Context, r *Request, handler any, msg *dbus.Message) ([]any, error) {
	h := reflect.ValueOf(handler)
	t := h.Type()
	in := []reflect.Value{reflect.ValueOf(ctx), reflect.ValueOf(r)}
	into := make([]any, 0, t.NumIn()-2)
	for n := 2; n < t.NumIn(); n++ {
		p := reflect.New(t.In(n))
		into, in = append(into, p.Interface()), append(in, p.Elem())
	}
	if err := decode(msg, into, t); err != nil {
		return nil, err
	}
	results := h.Call(in)
	if err, _ := results[len(results)-1].Interface().(error); err != nil {
		return nil, err
	}
	out := make([]any, len(results)-1)
	for n := range out {
		out[n] = results[n].Interface()
	}
	return out, nil
}

// decode refuses a body whose signature is not exactly the handler's: godbus
// would convert an int64 into an int32 without a word.
func decode(msg *dbus.Message, into []any, t reflect.Type) error {
	var want string
	for n := 2; n < t.NumIn(); n++ {
		want += dbus.SignatureOfType(t.In(n)).String()
	}
	if got := header[dbus.Signature](msg, dbus.FieldSignature).String(); got != want {
		return protocolError(errInvalidArgs, fmt.Sprintf("arguments of signature %q given, %q expected", got, want))
	}
	if err := storeSafely(msg.Body, into); err != nil {
		return protocolError(errInvalidArgs, fmt.Sprintf("arguments of signature %q expected: %v", want, err))
	}
	return nil
}
