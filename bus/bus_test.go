package bus_test

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/bus/bustest"
)

const (
	name  = "org.aegisvm.Test1"
	root  = dbus.ObjectPath("/org/aegisvm/Test1")
	iface = "org.aegisvm.Test1.Thing"
)

const definition = `<node><interface name="org.aegisvm.Test1.Thing">
  <method name="Echo"><arg type="a{sv}" direction="in"/><arg type="a{sv}" direction="out"/></method>
  <method name="Fail"><arg type="s" direction="in"/></method>
  <method name="Hang"/>
  <method name="Count"><arg type="u" direction="in"/></method>
  <method name="Swap"><arg type="h" direction="in"/><arg type="h" direction="out"/></method>
  <method name="Nested"><arg type="a(sbh)" direction="in"/><arg type="u" direction="out"/></method>
  <signal name="Tick"><arg type="u"/></signal>
  <property name="Name" type="s" access="read"/>
  <property name="Size" type="t" access="readwrite"/>
  <property name="Blob" type="ay" access="read"><annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="invalidates"/></property>
  <property name="Ticks" type="u" access="read"><annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="false"/></property>
</interface></node>`

func TestMain(m *testing.M) {
	if err := bus.AddDefinitions(definition); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

type thing struct {
	obj  *bus.Exported
	hang chan struct{} // closed when Hang was called
}

func (s *thing) table() bus.Interface {
	return bus.Interface{
		Name: iface,
		Methods: bus.Methods{
			"Echo": func(_ context.Context, _ *bus.Request, d bus.Dict) (bus.Dict, error) { return d, nil },
			"Fail": func(_ context.Context, _ *bus.Request, code string) error {
				if code == "raw" {
					return errors.New("not \xff text \x00")
				}
				return api.Errorf(api.Code(code), "as asked: %s", code)
			},
			"Hang": func(ctx context.Context, _ *bus.Request) error {
				close(s.hang)
				<-ctx.Done()
				return ctx.Err()
			},
			"Count": func(_ context.Context, _ *bus.Request, n uint32) error {
				for i := range n {
					if err := s.obj.Emit(iface, "Tick", i); err != nil {
						return err
					}
				}
				return nil
			},
			"Swap":   swap,
			"Nested": nested,
		},
		Properties: bus.Properties{"Name": "one", "Size": uint64(1), "Blob": []byte{1}, "Ticks": uint32(0)},
		Write: map[string]func(context.Context, *bus.Request, any) (any, error){
			"Size": func(_ context.Context, _ *bus.Request, v any) (any, error) {
				if v.(uint64) > 100 {
					return nil, api.Errorf(api.LimitExceeded, "size %d is over 100", v)
				}
				return v, nil
			},
		},
	}
}

// swap reads the file it is given and returns the end of a pipe with the
// content turned to upper case.
func swap(_ context.Context, r *bus.Request, fd dbus.UnixFD) (dbus.UnixFD, error) {
	content, err := io.ReadAll(r.File(fd))
	if err != nil {
		return -1, err
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return -1, err
	}
	defer writer.Close()
	_, err = writer.WriteString(strings.ToUpper(string(content)))
	return r.Send(reader), err
}

func nested(_ context.Context, r *bus.Request, disks []struct {
	Role     string
	ReadOnly bool
	File     dbus.UnixFD
},
) (uint32, error) {
	total := uint32(0)
	for _, d := range disks {
		content, err := io.ReadAll(r.File(d.File))
		if err != nil {
			return 0, err
		}
		total += uint32(len(content))
	}
	return total, nil
}

func serve(t *testing.T, address string) *thing {
	t.Helper()
	conn := bustest.Dial(t, address)
	s := &thing{hang: make(chan struct{})}
	conn.ManageObjects(root)
	obj, err := conn.Export(root+"/thing/one", s.table())
	if err != nil {
		t.Fatal(err)
	}
	s.obj = obj
	if err := conn.Claim(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	return s
}

// connect serves a thing and returns a client's view of it.
func connect(t *testing.T) (*thing, *bus.Conn, bus.Object) {
	address := bustest.Start(t)
	s := serve(t, address)
	client := bustest.Dial(t, address)
	return s, client, client.Object(name, root+"/thing/one", iface)
}

func TestAnErrorKeepsItsCodeAndMessageOverTheBus(t *testing.T) {
	_, _, thing := connect(t)
	for _, code := range []api.Code{api.NotFound, api.Exists, api.BadState, api.InvalidArgument, api.Unavailable, api.LimitExceeded, api.Denied, api.Internal} {
		err := thing.Call(t.Context(), "Fail", bus.Args{string(code)})
		if api.CodeOf(err) != code || err.Error() != "as asked: "+string(code) {
			t.Errorf("%s came back as %s: %v", code, api.CodeOf(err), err)
		}
	}
}

func TestAnErrorThatIsNoTextReachesTheCaller(t *testing.T) {
	_, _, thing := connect(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	err := thing.Call(ctx, "Fail", bus.Args{"raw"})
	if err == nil || !strings.Contains(err.Error(), "not \ufffd text \ufffd") {
		t.Errorf("error %v", err)
	}
}

func TestStandardErrorNames(t *testing.T) {
	address := bustest.Start(t)
	serve(t, address)
	raw, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	one, other := raw.Object(name, root+"/thing/one"), raw.Object(name, root+"/thing/two")
	const prefix, props = "org.freedesktop.DBus.Error.", "org.freedesktop.DBus.Properties."
	for _, c := range []struct {
		when, want string
		call       *dbus.Call
	}{
		{"the object is unknown", "UnknownObject", other.CallWithContext(t.Context(), iface+".Hang", 0)},
		{"the object is unknown to Introspect", "UnknownObject", other.CallWithContext(t.Context(), "org.freedesktop.DBus.Introspectable.Introspect", 0)},
		{"the interface is unknown", "UnknownInterface", one.CallWithContext(t.Context(), "org.example.No.Hang", 0)},
		{"the method is unknown", "UnknownMethod", one.CallWithContext(t.Context(), iface+".No", 0)},
		{"there is one argument too many", "InvalidArgs", one.CallWithContext(t.Context(), iface+".Count", 0, uint32(1), "x")},
		{"an argument has a compatible type that is not the one", "InvalidArgs", one.CallWithContext(t.Context(), iface+".Count", 0, int64(1))},
		{"the property is unknown", "UnknownProperty", one.CallWithContext(t.Context(), props+"Get", 0, iface, "No")},
		{"the property is read-only", "PropertyReadOnly", one.CallWithContext(t.Context(), props+"Set", 0, iface, "Name", dbus.MakeVariant("x"))},
		{"the property has another type", "InvalidArgs", one.CallWithContext(t.Context(), props+"Set", 0, iface, "Size", dbus.MakeVariant("x"))},
	} {
		var e dbus.Error
		if !errors.As(c.call.Err, &e) || e.Name != prefix+c.want {
			t.Errorf("when %s: error %q, %s expected (%v)", c.when, e.Name, prefix+c.want, c.call.Err)
		}
	}
}

func TestSignalsStayInOrderWhenTheReaderIsSlow(t *testing.T) {
	_, _, thing := connect(t)
	const n = 2000
	sub, err := thing.Subscribe(t.Context(), "Tick")
	if err != nil {
		t.Fatal(err)
	}
	// Nothing is read until all were sent.
	if err := thing.Call(t.Context(), "Count", bus.Args{uint32(n)}); err != nil {
		t.Fatal(err)
	}
	for i := range uint32(n) {
		if s := <-sub.C; s.Body[0] != i {
			t.Fatalf("signal %d came as number %d", s.Body[0], i)
		}
	}
}

func TestASignalOfAnotherSenderIsNotDelivered(t *testing.T) {
	address := bustest.Start(t)
	serve(t, address)
	client := bustest.Dial(t, address)
	thing := client.Object(name, root+"/thing/one", iface)
	sub, err := thing.Subscribe(t.Context(), "Tick")
	if err != nil {
		t.Fatal(err)
	}
	forger, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	defer forger.Close()
	msg := &dbus.Message{Type: dbus.TypeSignal, Body: []any{uint32(666)}, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldDestination: dbus.MakeVariant(client.UniqueName()),
		dbus.FieldPath:        dbus.MakeVariant(root + "/thing/one"), dbus.FieldInterface: dbus.MakeVariant(iface),
		dbus.FieldMember: dbus.MakeVariant("Tick"), dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(uint32(0))),
	}}
	forger.Send(msg, nil)
	// A round trip: the forged signal is with the client now.
	if err := forger.BusObject().CallWithContext(t.Context(), "org.freedesktop.DBus.GetId", 0).Err; err != nil {
		t.Fatal(err)
	}
	if err := thing.Call(t.Context(), "Count", bus.Args{uint32(1)}); err != nil {
		t.Fatal(err)
	}
	if s := <-sub.C; s.Body[0] != uint32(0) {
		t.Fatalf("got the forged signal %v", s.Body)
	}
}

func TestACallEndsWithItsDeadlineAndASubscriptionWithItsContext(t *testing.T) {
	s, _, thing := connect(t)
	ctx, cancel := context.WithCancel(t.Context())
	sub, err := thing.Subscribe(ctx, "Tick")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-s.hang
		cancel()
	}()
	if err := thing.Call(ctx, "Hang", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, context.Canceled expected", err)
	}
	if _, ok := <-sub.C; ok {
		t.Error("the subscription delivered a signal that nobody sent")
	}
}

func TestACallEndsWhenTheServiceGoes(t *testing.T) {
	address := bustest.Start(t)
	s := serve(t, address)
	client := bustest.Dial(t, address)
	owners, err := client.SubscribeOwner(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-s.hang
		bus.CloseServer(s.obj)
	}()
	err = client.Object(name, root+"/thing/one", iface).Call(t.Context(), "Hang", nil)
	if want := name + " went away before it answered Hang"; api.CodeOf(err) != api.Unavailable || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v (%s), Unavailable and %q expected", err, api.CodeOf(err), want)
	}
	if o := <-owners.C; o.Body[2] != "" {
		t.Errorf("the new owner is %q, none expected", o.Body[2])
	}
}

func TestADictCarriesAStructureWithItsJSONNames(t *testing.T) {
	_, _, thing := connect(t)
	code := 3
	in := api.Instance{
		ID: "i1", Phase: api.PhaseFailed, Command: []string{"a", "b"}, Env: map[string]string{"K": "v"},
		MemoryMB: 512, OwnerUID: 1000, CreatedAt: time.Now().UTC().Round(0), ExitCode: &code,
	}
	d, err := bus.ToDict(in)
	if err != nil {
		t.Fatal(err)
	}
	var back bus.Dict
	if err := thing.Call(t.Context(), "Echo", bus.Args{d}, &back); err != nil {
		t.Fatal(err)
	}
	var out api.Instance
	if err := bus.FromDictStrict(back, &out); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(in, out); diff != "" {
		t.Error(diff)
	}
	back["surprise"] = dbus.MakeVariant("x")
	if err := bus.FromDictStrict(back, &out); err == nil {
		t.Error("an unknown name was taken")
	}
	if err := bus.FromDict(back, &out); err != nil {
		t.Error(err)
	}
}
