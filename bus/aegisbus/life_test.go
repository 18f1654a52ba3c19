package aegisbus_test

import (
	"context"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/bus/aegisbus"
	"github.com/xfeldman/aegisvm/bus/bustest"
)

// lively changes its one instance as it is told.
type lively struct {
	*scripted
	ended chan struct{}
}

func (l *lively) Rename(ctx context.Context, ref, handle string) (api.Instance, error) {
	l.change(func(in *api.Instance) { in.Handle = handle }, api.Event{Seq: 1, Type: api.EventChanged})
	return l.Get(ctx, ref)
}

func (l *lively) Pause(ctx context.Context, ref string) (api.Instance, error) {
	l.change(func(in *api.Instance) { in.Phase, in.State = api.PhasePaused, api.StatePaused }, api.Event{Seq: 2, Type: api.EventPhase})
	return l.Get(ctx, ref)
}

// Wait waits until its caller goes.
func (l *lively) Wait(ctx context.Context, _ string, _ api.Until) (api.Instance, error) {
	l.attached <- struct{}{}
	<-ctx.Done()
	close(l.ended)
	return api.Instance{}, ctx.Err()
}

func TestANewNameIsAChangedProperty(t *testing.T) {
	address, l := bustest.Start(t), &lively{scripted: newScripted()}
	serve(t, address, l)
	conn := bustest.Dial(t, address)
	object := conn.Object(bus.AegisName, "/org/aegisvm/Aegis1/instance/inst_2d1", bus.AegisInstance)
	signals, err := conn.Object(bus.AegisName, bus.AegisPath, bus.AegisManager).SubscribeBelow(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		call func() error
		want bus.Dict
	}{
		{func() error { return object.Call(t.Context(), "Rename", bus.Args{"www"}) }, bus.Dict{"Handle": dbus.MakeVariant("www")}},
		{func() error { return object.Call(t.Context(), "Pause", nil) }, bus.Dict{"Phase": dbus.MakeVariant("paused"), "State": dbus.MakeVariant("paused")}},
	} {
		if err := c.call(); err != nil {
			t.Fatal(err)
		}
		for sig := range signals.C {
			if sig.Member != "PropertiesChanged" {
				continue
			}
			if diff := cmp.Diff(c.want, sig.Body[1].(bus.Dict), cmp.Comparer(func(a, b dbus.Variant) bool { return a.String() == b.String() })); diff != "" {
				t.Errorf("changed properties: %s", diff)
			}
			break
		}
	}
}

func TestAWaitEndsWithItsCaller(t *testing.T) {
	address, l := bustest.Start(t), &lively{scripted: newScripted(), ended: make(chan struct{})}
	serve(t, address, l)
	conn, err := bus.Dial(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() {
		_, err := aegisbus.NewClient(conn).Wait(t.Context(), "web", api.UntilGone)
		waited <- err
	}()
	<-l.attached
	conn.Close()
	if err := <-waited; err == nil {
		t.Error("the wait succeeded")
	}
	<-l.ended
}
