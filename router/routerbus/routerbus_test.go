package routerbus_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/bus/bustest"
	"github.com/xfeldman/aegisvm/router"
	"github.com/xfeldman/aegisvm/router/routerbus"
	"github.com/xfeldman/aegisvm/router/routertest"
)

// serve is a routerd on a bus, until the test or stop ends it.
func serve(t *testing.T, address, dir string, g *routertest.Guests) (stop func()) {
	t.Helper()
	s, err := router.Open(router.Config{Dir: dir, Waker: g, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	conn, err := bus.Dial(ctx, address)
	if err != nil {
		t.Fatal(err)
	}
	ready, over := make(chan struct{}), make(chan error, 1)
	go func() {
		over <- routerbus.Serve(ctx, conn, s, []uint32{1}, func() error { close(ready); return nil })
	}()
	select {
	case <-ready:
	case err := <-over:
		t.Fatal(err)
	}
	done := false
	stop = func() {
		if !done {
			done = true
			cancel()
			<-over
			conn.Close()
			s.Close()
		}
	}
	t.Cleanup(stop)
	return stop
}

func client(t *testing.T, address string) *routerbus.Client {
	t.Helper()
	conn, err := bus.Dial(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return routerbus.NewClient(conn)
}

func TestContract(t *testing.T) {
	routertest.Run(t, func(t *testing.T, g *routertest.Guests) router.Router {
		address := bustest.Start(t)
		serve(t, address, t.TempDir(), g)
		return client(t, address)
	})
}

func TestARouterThatIsStartedAnewIsAChange(t *testing.T) {
	address, dir, g := bustest.Start(t), t.TempDir(), routertest.NewGuests(t)
	stop := serve(t, address, dir, g)
	c := client(t, address)
	changes, err := c.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e, err := c.Expose(t.Context(), routertest.Expose("inst-1", 80, api.ProtocolTCP))
	if err != nil {
		t.Fatal(err)
	}
	stop()
	serve(t, address, dir, g)
	for {
		<-changes
		all, err := c.List(t.Context())
		if err == nil && len(all) == 1 && all[0] == e {
			return
		}
	}
}
