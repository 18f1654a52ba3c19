package service

import (
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/bus/bustest"
)

// fakeSystemd answers as systemd does: a job at once, its end by a signal.
type fakeSystemd struct {
	conn   *dbus.Conn
	result string
	refuse *dbus.Error
	calls  chan string
}

func (f *fakeSystemd) Subscribe() *dbus.Error { return nil }

func (f *fakeSystemd) StartUnit(msg dbus.Message, unit, mode string) (dbus.ObjectPath, *dbus.Error) {
	return f.job(msg, "start "+unit+" "+mode)
}

func (f *fakeSystemd) StopUnit(msg dbus.Message, unit, mode string) (dbus.ObjectPath, *dbus.Error) {
	return f.job(msg, "stop "+unit+" "+mode)
}

func (f *fakeSystemd) job(msg dbus.Message, call string) (dbus.ObjectPath, *dbus.Error) {
	if msg.Flags&dbus.FlagAllowInteractiveAuthorization == 0 {
		call += " without asking"
	}
	f.calls <- call
	if f.refuse != nil {
		return "", f.refuse
	}
	const path = "/org/freedesktop/systemd1"
	// The end of another job, and of ours: systemd sends it after the answer,
	// the bus keeps no order between the two for us, so it may come before.
	f.conn.Emit(path, manager+".JobRemoved", uint32(1), dbus.ObjectPath(path+"/job/1"), "other.service", "failed")
	f.conn.Emit(path, manager+".JobRemoved", uint32(2), dbus.ObjectPath(path+"/job/2"), "aegisd.socket", f.result)
	return path + "/job/2", nil
}

// startFake puts a systemd on a bus of its own.
func startFake(t *testing.T, result string, refuse *dbus.Error) *fakeSystemd {
	t.Helper()
	address := bustest.Start(t)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	f := &fakeSystemd{conn: conn, result: result, refuse: refuse, calls: make(chan string, 8)}
	if err := conn.Export(f, "/org/freedesktop/systemd1", manager); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.RequestName("org.freedesktop.systemd1", dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fakeSystemd) called() []string {
	var all []string
	for len(f.calls) > 0 {
		all = append(all, <-f.calls)
	}
	return all
}

func TestSystemStartsTheSocketAndMayAskForAuthorization(t *testing.T) {
	f := startFake(t, "done", nil)
	if err := (System{}).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"start aegisd.socket replace"}, f.called()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSystemStopsTheSocketFirst(t *testing.T) {
	f := startFake(t, "done", nil)
	if err := (System{}).Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"stop aegisd.socket replace", "stop aegisd.service replace"}, f.called()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSystemNamesWhatWentWrong(t *testing.T) {
	for _, c := range []struct {
		name, result string
		refuse       *dbus.Error
		want         string
	}{
		{"a job that fails", "failed", nil, "StartUnit of aegisd.socket: failed: see systemctl status aegisd.socket"},
		{
			"a user who may not", "", dbus.NewError("org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", []any{"no"}),
			"run it as root",
		},
		{"a unit that is not there", "", dbus.NewError("org.freedesktop.systemd1.NoSuchUnit", []any{"Unit aegisd.socket not found."}), "not found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			startFake(t, c.result, c.refuse)
			if err := (System{}).Start(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestSystemNamesAMissingBus(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus")
	if err := (System{}).Start(t.Context()); err == nil || !strings.Contains(err.Error(), "connecting to the system bus") {
		t.Errorf("got %v", err)
	}
}
