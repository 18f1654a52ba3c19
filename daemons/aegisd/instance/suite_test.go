package instance_test

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/api/apitest"
	"github.com/xfeldman/aegisvm/api/restapi"
	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/bus/aegisbus"
	"github.com/xfeldman/aegisvm/bus/bustest"
)

func TestServiceItself(t *testing.T) {
	apitest.Run(t, func(t *testing.T) api.Aegis { return newWorld(t) })
}

func TestServiceOverREST(t *testing.T) {
	apitest.Run(t, func(t *testing.T) api.Aegis { return overREST(t, newWorld(t)) })
}

func TestServiceOverDBus(t *testing.T) {
	address := bustest.Start(t)
	apitest.Run(t, func(t *testing.T) api.Aegis { return overDBus(t, address, newWorld(t)) })
}

func overREST(t testing.TB, aegis api.Aegis) *restapi.Client {
	client := restapi.NewClient(onSocket(t, aegis))
	t.Cleanup(client.Close)
	return client
}

// onSocket serves aegis and returns its socket.
func onSocket(t testing.TB, aegis api.Aegis) string {
	path := filepath.Join(t.TempDir(), "aegisd.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, func(ctx context.Context) error {
		return restapi.NewServer(aegis, slog.New(slog.DiscardHandler)).Serve(ctx, l)
	})
	return path
}

func overDBus(t testing.TB, address string, aegis api.Aegis) *aegisbus.Client {
	server, err := bus.Dial(context.Background(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	ready := make(chan struct{})
	serve(t, func(ctx context.Context) error {
		return aegisbus.Serve(ctx, server, aegis, "test", slog.New(slog.DiscardHandler), func() { close(ready) })
	})
	<-ready
	return aegisbus.NewClient(bustest.Dial(t, address))
}

// serve runs a server until the end of the test.
func serve(t testing.TB, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("server: %v", err)
		}
	})
}
