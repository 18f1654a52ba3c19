package connect

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/bus/bustest"
)

const noBus = "unix:path=/nonexistent/bus"

func TestChoosePrefersWhatWasSaid(t *testing.T) {
	for _, c := range []struct {
		name, address, home string
		want                Target
	}{
		{"the system bus", "dbus:system", "/h", Target{Bus: "system"}},
		{"another bus", "dbus:unix:path=/run/x", "", Target{Bus: "unix:path=/run/x"}},
		{"a socket", "unix:/run/aegis/aegisd.sock", "/h", Target{Socket: "/run/aegis/aegisd.sock"}},
		{"the socket of a home", "unix:/h/aegisd.sock", "/h", Target{Socket: "/h/aegisd.sock", Home: "/h"}},
		{"a home", "", "/h/", Target{Socket: "/h/aegisd.sock", Home: "/h"}},
		{"nothing", "", "", Target{Socket: "/home/me/.aegis/aegisd.sock", Home: "/home/me/.aegis"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("AEGIS_ADDRESS", c.address)
			t.Setenv("AEGIS_HOME", c.home)
			t.Setenv("HOME", "/home/me")
			t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", noBus)
			got, err := Choose(t.Context())
			if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestChooseFindsTheSystemsDaemonOnTheBus(t *testing.T) {
	address := bustest.Start(t)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
	t.Setenv("AEGIS_ADDRESS", "")
	t.Setenv("AEGIS_HOME", "")
	t.Setenv("HOME", "/home/me")
	if got, err := Choose(t.Context()); err != nil || !got.Standalone() {
		t.Errorf("a bus without it: %+v, %v", got, err)
	}
	if err := bustest.Dial(t, address).Claim(t.Context(), bus.AegisName); err != nil {
		t.Fatal(err)
	}
	if got, err := Choose(t.Context()); err != nil || got != (Target{Bus: "system"}) {
		t.Errorf("a bus with it: %+v, %v", got, err)
	}
	if client, err := Dial(t.Context()); err != nil || client.Target != (Target{Bus: "system"}) || client.conn == nil {
		t.Errorf("connected with %+v, %v", client, err)
	} else {
		client.Close()
	}
	t.Setenv("AEGIS_HOME", "/h")
	if got, err := Choose(t.Context()); err != nil || got.Home != "/h" {
		t.Errorf("AEGIS_HOME is stronger: %+v, %v", got, err)
	}
}

func TestABusThatDoesNotAnswerIsNoReasonToTakeAnotherDaemon(t *testing.T) {
	silent, err := net.Listen("unix", filepath.Join(t.TempDir(), "bus"))
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+silent.Addr().String())
	t.Setenv("AEGIS_ADDRESS", "")
	t.Setenv("AEGIS_HOME", "")
	t.Setenv("HOME", "/home/me")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		if conn, err := silent.Accept(); err == nil {
			cancel() // somebody has run out of patience
			defer conn.Close()
			<-t.Context().Done()
		}
	}()
	if got, err := Choose(ctx); api.CodeOf(err) != api.Unavailable {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestChooseNamesWhatItCannotRead(t *testing.T) {
	for _, c := range []struct{ name, address, home string }{
		{"a transport that is none", "tcp:host", ""},
		{"a relative socket", "unix:aegisd.sock", ""},
		{"no bus", "dbus:", ""},
		{"a relative home", "", "here"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("AEGIS_ADDRESS", c.address)
			t.Setenv("AEGIS_HOME", c.home)
			_, err := Choose(t.Context())
			if api.CodeOf(err) != api.InvalidArgument || !strings.Contains(err.Error(), "expected") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestOpenNamesADaemonThatIsNotOnTheBus(t *testing.T) {
	_, err := Open(t.Context(), Target{Bus: bustest.Start(t)})
	if api.CodeOf(err) != api.Unavailable || !strings.Contains(err.Error(), "aegisd is not running") {
		t.Errorf("got %v", err)
	}
}

func TestRunningDoesNotNeedAnAnswerOverTheBus(t *testing.T) {
	address := bustest.Start(t)
	if err := bustest.Dial(t, address).Claim(t.Context(), bus.AegisName); err != nil {
		t.Fatal(err)
	}
	client, err := Open(t.Context(), Target{Bus: address})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if running, err := client.Running(t.Context()); !running || err != nil {
		t.Errorf("running: %v, %v", running, err)
	}
}

func TestRunningIsFalseWithoutASocket(t *testing.T) {
	client, err := Open(t.Context(), Target{Socket: t.TempDir() + "/aegisd.sock"})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if running, err := client.Running(t.Context()); running || err != nil {
		t.Errorf("running: %v, %v", running, err)
	}
}
