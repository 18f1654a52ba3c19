package bus_test

import (
	"context"
	"encoding/xml"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/introspect"
	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/bus/bustest"
)

func TestOneUpdateOfPropertiesIsOneSignal(t *testing.T) {
	s, client, thing := connect(t)
	sub, err := client.Object(name, root, "").SubscribeBelow(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = s.obj.Set(iface, bus.Properties{"Name": "two", "Size": uint64(2), "Blob": []byte{2}, "Ticks": uint32(9)})
	if err != nil {
		t.Fatal(err)
	}
	want := bus.Signal{
		Path: root + "/thing/one", Interface: "org.freedesktop.DBus.Properties", Member: "PropertiesChanged",
		Body: []any{iface, bus.Dict{"Name": dbus.MakeVariant("two"), "Size": dbus.MakeVariant(uint64(2))}, []string{"Blob"}},
	}
	if diff := cmp.Diff(want, <-sub.C, cmp.AllowUnexported(dbus.Variant{}, dbus.Signature{})); diff != "" {
		t.Error(diff)
	}
	var ticks uint32
	if err := thing.Get(t.Context(), "Ticks", &ticks); err != nil || ticks != 9 {
		t.Errorf("Ticks is %d (%v), 9 expected", ticks, err)
	}
	// No change, no signal: the next one is that of the call below.
	if err := s.obj.Set(iface, bus.Properties{"Name": "two"}); err != nil {
		t.Fatal(err)
	}
	if err := s.obj.Set(iface, bus.Properties{"Name": 3}); err == nil {
		t.Error("a number was taken for a string property")
	}
	if err := thing.Call(t.Context(), "Count", bus.Args{uint32(1)}); err != nil {
		t.Fatal(err)
	}
	if s := <-sub.C; s.Member != "Tick" {
		t.Errorf("got %s, Tick expected", s.Member)
	}
}

func TestAPropertyWithASetterCanBeWritten(t *testing.T) {
	_, client, thing := connect(t)
	set := func(v any) error {
		return client.Object(name, root+"/thing/one", "org.freedesktop.DBus.Properties").
			Call(t.Context(), "Set", bus.Args{iface, "Size", dbus.MakeVariant(v)})
	}
	if err := set(uint64(7)); err != nil {
		t.Fatal(err)
	}
	var size uint64
	if err := thing.Get(t.Context(), "Size", &size); err != nil || size != 7 {
		t.Errorf("Size is %d (%v), 7 expected", size, err)
	}
	if err := set(uint64(700)); api.CodeOf(err) != api.LimitExceeded {
		t.Errorf("error %v, LimitExceeded expected", err)
	}
}

func TestTheObjectManagerListsObjectsWithTheirProperties(t *testing.T) {
	address := bustest.Start(t)
	serve(t, address)
	client := bustest.Dial(t, address)
	manager := client.Object(name, root, "org.freedesktop.DBus.ObjectManager")
	var all map[dbus.ObjectPath]map[string]bus.Dict
	if err := manager.Call(t.Context(), "GetManagedObjects", nil, &all); err != nil {
		t.Fatal(err)
	}
	if got := all[root+"/thing/one"][iface]["Name"].Value(); len(all) != 1 || got != "one" {
		t.Errorf("managed objects: %v", all)
	}
}

func TestExportAndUnexportAreAnnounced(t *testing.T) {
	address := bustest.Start(t)
	conn := bustest.Dial(t, address)
	conn.ManageObjects(root)
	if err := conn.Claim(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	sub, err := bustest.Dial(t, address).Object(name, root, "").SubscribeBelow(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	obj, err := conn.Export(root+"/thing/one", (&thing{}).table())
	if err != nil {
		t.Fatal(err)
	}
	if err := obj.Unexport(); err != nil {
		t.Fatal(err)
	}
	if s := <-sub.C; s.Member != "InterfacesAdded" || s.Body[0] != root+"/thing/one" {
		t.Errorf("got %v, InterfacesAdded expected", s)
	}
	if s := <-sub.C; s.Member != "InterfacesRemoved" || !cmp.Equal(s.Body, []any{root + "/thing/one", []string{iface}}) {
		t.Errorf("got %v, InterfacesRemoved expected", s)
	}
}

func TestIntrospectionIsTheXML(t *testing.T) {
	_, client, _ := connect(t)
	look := func(path dbus.ObjectPath) (node introspect.Node) {
		var text string
		err := client.Object(name, path, "org.freedesktop.DBus.Introspectable").Call(t.Context(), "Introspect", nil, &text)
		if err == nil {
			err = xml.Unmarshal([]byte(text), &node)
		}
		if err != nil {
			t.Fatal(err)
		}
		return node
	}
	if n := look("/org/aegisvm"); len(n.Children) != 1 || n.Children[0].Name != "Test1" {
		t.Errorf("children of /org/aegisvm: %+v", n.Children)
	}
	want, err := bus.Definition(iface)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range look(root + "/thing/one").Interfaces {
		if i.Name == iface {
			if diff := cmp.Diff(want, i); diff != "" {
				t.Error(diff)
			}
			return
		}
	}
	t.Errorf("%s is not in the introspection", iface)
}

func TestATableThatDiffersFromItsXMLIsRefused(t *testing.T) {
	good := (&thing{}).table()
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(bus.Interface){
		"method Hang has no handler":                          func(i bus.Interface) { delete(i.Methods, "Hang") },
		"method More is not in the XML":                       func(i bus.Interface) { i.Methods["More"] = i.Methods["Hang"] },
		"method Count: code (s)->(), xml (u)->()":             func(i bus.Interface) { i.Methods["Count"] = i.Methods["Fail"] },
		"method Hang: handler is a func()":                    func(i bus.Interface) { i.Methods["Hang"] = func() {} },
		"property Name: code u, xml s":                        func(i bus.Interface) { i.Properties["Name"] = uint32(1) },
		"property Size has no value":                          func(i bus.Interface) { delete(i.Properties, "Size") },
		"property Size: access readwrite in the XML does not": func(i bus.Interface) { delete(i.Write, "Size") },
	} {
		table := (&thing{}).table()
		change(table)
		if err := table.Check(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("error %v, %q expected", err, what)
		}
	}
}

// daemonUID is a user that every system has: the bus refuses users without a
// name.
const daemonUID = 1

func TestEveryDeniedSenderIsTurnedAway(t *testing.T) {
	address := bustest.Start(t)
	conn := bustest.Dial(t, address)
	conn.ManageObjects(root)
	table := (&thing{}).table()
	table.Allow = bus.AllowUIDs(daemonUID)
	if _, err := conn.Export(root+"/thing/one", table); err != nil {
		t.Fatal(err)
	}
	if err := conn.Claim(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	for uid, allowed := range map[int]bool{0: true, daemonUID: true, 65534: false} {
		client := bustest.DialAs(t, address, uid)
		err := client.Object(name, root+"/thing/one", iface).Call(t.Context(), "Count", bus.Args{uint32(0)})
		if (err == nil) != allowed || err != nil && api.CodeOf(err) != api.Denied {
			t.Errorf("user %d: %v", uid, err)
		}
		var v string
		if err := client.Object(name, root+"/thing/one", iface).Get(t.Context(), "Name", &v); (err == nil) != allowed {
			t.Errorf("user %d reads a property: %v", uid, err)
		}
		var all map[dbus.ObjectPath]map[string]bus.Dict
		err = client.Object(name, root, "org.freedesktop.DBus.ObjectManager").Call(t.Context(), "GetManagedObjects", nil, &all)
		if _, sees := all[root+"/thing/one"][iface]; err != nil || sees != allowed {
			t.Errorf("user %d lists objects: %v (%v)", uid, all, err)
		}
	}
}

func TestCredentialsAreThoseOfTheKernel(t *testing.T) {
	address := bustest.Start(t)
	conn, client := bustest.Dial(t, address), bustest.DialAs(t, address, daemonUID)
	who, err := conn.Credentials(t.Context(), client.UniqueName())
	if err != nil {
		t.Fatal(err)
	}
	if want := (api.Caller{UID: daemonUID, GID: uint32(os.Getgid()), PID: int32(os.Getpid())}); who != want {
		t.Errorf("got %+v, %+v expected", who, want)
	}
}

func TestANameIsClaimedOnce(t *testing.T) {
	address := bustest.Start(t)
	serve(t, address)
	if err := bustest.Dial(t, address).Claim(t.Context(), name); api.CodeOf(err) != api.Exists {
		t.Errorf("error %v, Exists expected", err)
	}
}

func TestLogControlChangesTheLevel(t *testing.T) {
	address := bustest.Start(t)
	conn := bustest.Dial(t, address)
	var level slog.LevelVar
	if err := conn.ExportLogControl("aegis-test", &level); err != nil {
		t.Fatal(err)
	}
	set := func(v string) error {
		return bustest.Dial(t, address).Object(conn.UniqueName(), bus.LogControlPath, "org.freedesktop.DBus.Properties").
			Call(context.Background(), "Set", bus.Args{"org.freedesktop.LogControl1", "LogLevel", dbus.MakeVariant(v)})
	}
	if err := set("debug"); err != nil || level.Level() != slog.LevelDebug {
		t.Errorf("level %v (%v), debug expected", level.Level(), err)
	}
	if err := set("loud"); api.CodeOf(err) != api.InvalidArgument {
		t.Errorf("error %v, InvalidArgument expected", err)
	}
}

func TestEscapeMakesPathElementsAsSystemdDoes(t *testing.T) {
	for in, want := range map[string]string{"": "_", "web": "web", "1a": "_31a", "a-b.c": "a_2db_2ec", "a1": "a1", "é": "_c3_a9"} {
		if got := bus.Escape(in); got != want {
			t.Errorf("%q became %q, %q expected", in, got, want)
		}
	}
}
