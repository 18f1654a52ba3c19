package aegisbus_test

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/bus/aegisbus"
	"github.com/xfeldman/aegisvm/bus/bustest"
)

// scripted has one instance that a test changes.
type scripted struct {
	api.Aegis
	instance chan api.Instance // holds the current one
	events   chan api.Event
	attached chan struct{}
}

func newScripted() *scripted {
	s := &scripted{instance: make(chan api.Instance, 1), events: make(chan api.Event, 10), attached: make(chan struct{}, 1)}
	s.instance <- api.Instance{ID: "inst-1", Handle: "web", Phase: api.PhaseStarting, State: api.StateStarting, CreatedAt: time.Unix(1, 0)}
	return s
}

func (s *scripted) change(f func(*api.Instance), ev api.Event) {
	in := <-s.instance
	f(&in)
	s.instance <- in
	ev.Instance = in.ID
	s.events <- ev
}

func (s *scripted) Get(context.Context, string) (api.Instance, error) {
	in := <-s.instance
	s.instance <- in
	return in, nil
}

func (s *scripted) List(ctx context.Context) ([]api.Instance, error) {
	in, err := s.Get(ctx, "")
	return []api.Instance{in}, err
}

func (s *scripted) Events(context.Context) (<-chan api.Event, error) { return s.events, nil }

func (s *scripted) Status(context.Context) (api.Status, error) {
	return api.Status{Status: "running"}, nil
}

func (s *scripted) Create(_ context.Context, who api.Caller, spec api.InstanceSpec) (api.Instance, error) {
	return api.Instance{ID: "inst-2", OwnerUID: who.UID, Command: spec.Command}, nil
}

// Attach waits until its caller goes.
func (s *scripted) Attach(ctx context.Context, _ string) (*api.Streams, error) {
	s.attached <- struct{}{}
	<-ctx.Done()
	s.attached <- struct{}{}
	return nil, ctx.Err()
}

func serve(t *testing.T, address string, aegis api.Aegis) {
	t.Helper()
	conn, err := bus.Dial(context.Background(), address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- aegisbus.Serve(ctx, conn, aegis, "1.2", slog.New(slog.DiscardHandler), func() { close(ready) })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		conn.Close()
	})
	select {
	case <-ready:
	case err := <-done:
		done <- nil
		t.Fatalf("serve: %v", err)
	}
}

func TestInstancesAreObjectsWithPropertiesThatChange(t *testing.T) {
	address, s := bustest.Start(t), newScripted()
	serve(t, address, s)
	conn := bustest.Dial(t, address)
	const path = "/org/aegisvm/Aegis1/instance/inst_2d1"
	signals, err := conn.Object(bus.AegisName, bus.AegisPath, bus.AegisManager).SubscribeBelow(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var phase string
	if err := conn.Object(bus.AegisName, path, bus.AegisInstance).Get(t.Context(), "Phase", &phase); err != nil || phase != "starting" {
		t.Fatalf("phase is %q, %v", phase, err)
	}
	s.change(func(in *api.Instance) { in.Phase, in.State, in.Machine = api.PhaseRunning, api.StateRunning, "m-1" }, api.Event{Seq: 1, Type: api.EventPhase})
	sig := <-signals.C
	want := bus.Dict{"Phase": dbus.MakeVariant("running"), "State": dbus.MakeVariant("running"), "Machine": dbus.MakeVariant("m-1")}
	if sig.Path != path || sig.Member != "PropertiesChanged" {
		t.Fatalf("signal is %+v", sig)
	}
	if diff := cmp.Diff(want, sig.Body[1], cmp.Comparer(func(a, b dbus.Variant) bool { return a.String() == b.String() })); diff != "" {
		t.Errorf("changed: %s", diff)
	}
	if sig := <-signals.C; sig.Member != "Event" || sig.Path != bus.AegisPath {
		t.Errorf("signal is %+v", sig)
	}
	s.change(func(*api.Instance) {}, api.Event{Seq: 2, Type: api.EventDeleted})
	if sig := <-signals.C; sig.Member != "InterfacesRemoved" || sig.Body[0] != dbus.ObjectPath(path) {
		t.Errorf("signal is %+v", sig)
	}
}

func TestGapInTheEventsEndsTheStream(t *testing.T) {
	address, s := bustest.Start(t), newScripted()
	serve(t, address, s)
	events, err := aegisbus.NewClient(bustest.Dial(t, address)).Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, seq := range []uint64{5, 6, 8} {
		s.change(func(*api.Instance) {}, api.Event{Seq: seq, Type: api.EventPhase})
	}
	var got []uint64
	for ev := range events {
		got = append(got, ev.Seq)
	}
	if diff := cmp.Diff([]uint64{5, 6}, got); diff != "" {
		t.Errorf("events: %s", diff)
	}
}

func TestCallerThatVanishesIsNotWaitedFor(t *testing.T) {
	address, s := bustest.Start(t), newScripted()
	serve(t, address, s)
	conn := bustest.Dial(t, address)
	failed := make(chan error, 1)
	go func() {
		_, err := aegisbus.NewClient(conn).Attach(t.Context(), "inst-1")
		failed <- err
	}()
	<-s.attached
	conn.Close()
	<-s.attached
	if err := <-failed; api.CodeOf(err) != api.Unavailable {
		t.Errorf("attach: %v", err)
	}
}

func TestSpecsAreReadStrictly(t *testing.T) {
	address := bustest.Start(t)
	serve(t, address, newScripted())
	root := bustest.Dial(t, address).Object(bus.AegisName, bus.AegisPath, bus.AegisManager)
	var path dbus.ObjectPath
	var d bus.Dict
	for _, text := range []string{``, `{"comand":[]}`, `{} {}`, `[]`, `{"memory_mb":"1"}`} {
		if err := root.Call(t.Context(), "CreateInstance", bus.Args{text}, &path, &d); api.CodeOf(err) != api.InvalidArgument {
			t.Errorf("spec %q: %v", text, err)
		}
	}
	if err := root.Call(t.Context(), "CreateInstance", bus.Args{`{"command":["x"]}`}, &path, &d); err != nil {
		t.Fatal(err)
	}
	if path != "/org/aegisvm/Aegis1/instance/inst_2d2" || d["owner_uid"].Value() != int64(os.Getuid()) {
		t.Errorf("answer: %s %v", path, d)
	}
}

func TestDaemonThatIsNotThereIsUnavailable(t *testing.T) {
	client := aegisbus.NewClient(bustest.Dial(t, bustest.Start(t)))
	if _, err := client.List(t.Context()); api.CodeOf(err) != api.Unavailable {
		t.Errorf("list: %v", err)
	}
	if _, err := client.Events(t.Context()); api.CodeOf(err) != api.Unavailable {
		t.Errorf("events: %v", err)
	}
}

func TestSecondDaemonDoesNotGetTheName(t *testing.T) {
	address := bustest.Start(t)
	serve(t, address, newScripted())
	err := aegisbus.Serve(t.Context(), bustest.Dial(t, address), newScripted(), "1.2", slog.New(slog.DiscardHandler), nil)
	if api.CodeOf(err) != api.Exists {
		t.Errorf("serve: %v", err)
	}
}
