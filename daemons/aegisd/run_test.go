package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/api/restapi"
)

// started runs a standalone aegisd in this process and returns when it says
// that it is ready.
func started(t *testing.T, o options) (stop func() error) {
	t.Helper()
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "n")})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	t.Setenv("NOTIFY_SOCKET", notify.LocalAddr().String())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx, o, slog.New(slog.DiscardHandler), &slog.LevelVar{}) }()
	notify.SetReadDeadline(time.Now().Add(10 * time.Second))
	buf := make([]byte, 100)
	n, err := notify.Read(buf)
	if got := string(buf[:n]); err != nil || !strings.Contains(got, "READY=1") {
		cancel()
		t.Fatalf("notified %q, %v; run: %v", got, err, <-done)
	}
	return func() error {
		cancel()
		return <-done
	}
}

func TestAConnectionThatEndsWithTheDaemonIsNoFailure(t *testing.T) {
	lost, log := api.Errorf(api.Unavailable, "the connection to the message bus was lost"), slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(t.Context())
	if err := unlessStopped(ctx, lost, log); err == nil {
		t.Error("a lost bus is no failure")
	}
	cancel()
	if err := unlessStopped(ctx, lost, log); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

func TestStandaloneDaemonFromStartToEnd(t *testing.T) {
	home := t.TempDir()
	o, err := parse([]string{"--standalone", "--home", home, "--share", t.TempDir()}, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	stop := started(t, o)
	socket, pidFile := filepath.Join(home, "aegisd.sock"), filepath.Join(home, "data", "aegisd.pid")
	client := restapi.NewClient(socket)
	defer client.Close()
	st, err := client.Status(t.Context())
	if err != nil || st.Composition != "standalone" || st.Version != api.Version {
		t.Errorf("status: %+v, %v", st, err)
	}
	if pid, err := os.ReadFile(pidFile); err != nil || string(pid) != fmt.Sprintln(os.Getpid()) {
		t.Errorf("pid file: %q, %v", pid, err)
	}
	in, err := client.Create(t.Context(), api.Caller{}, api.InstanceSpec{Command: []string{"true"}, Attach: true})
	if err != nil || in.OwnerUID != uint32(os.Getuid()) {
		t.Errorf("create: %+v, %v", in, err)
	}
	if _, err := client.Attach(t.Context(), in.ID); err == nil {
		t.Error("an instance without an image was attached")
	}
	if err := run(t.Context(), o, slog.New(slog.DiscardHandler), &slog.LevelVar{}); api.CodeOf(err) != api.Unavailable {
		t.Errorf("second daemon: %v", err)
	}
	if err := stop(); err != nil {
		t.Errorf("end: %v", err)
	}
	for _, path := range []string{socket, pidFile} {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("left behind: %s, %v", path, err)
		}
	}
	stop = started(t, o)
	if got, err := client.Get(t.Context(), in.ID); err != nil || got.Phase != api.PhaseFailed || !strings.Contains(got.LastError, "image") {
		t.Errorf("after a restart: %+v, %v", got, err)
	}
	if err := stop(); err != nil {
		t.Errorf("end: %v", err)
	}
}

func TestSystemCompositionWithoutASocketSaysHowToStartIt(t *testing.T) {
	err := run(t.Context(), options{system: true, state: t.TempDir()}, slog.New(slog.DiscardHandler), &slog.LevelVar{})
	if api.CodeOf(err) != api.Unavailable || !strings.Contains(err.Error(), "aegisd.socket") {
		t.Errorf("run: %v", err)
	}
}
