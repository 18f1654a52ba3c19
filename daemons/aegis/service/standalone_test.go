//go:build linux

package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// TestMain is aegisd where a test starts this program as one.
func TestMain(m *testing.M) {
	if mode := os.Getenv("AEGIS_TEST_DAEMON"); mode != "" {
		os.Exit(fakeDaemon(mode))
	}
	os.Exit(m.Run())
}

func fakeDaemon(mode string) int {
	if mode == "dies" {
		fmt.Fprintln(os.Stderr, "line of no interest\nwarming up\nthe database is locked\nanother aegisd runs")
		return 3
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	home := os.Args[len(os.Args)-1]
	l, err := net.Listen("unix", filepath.Join(home, "aegisd.sock"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer l.Close()
	if mode != "silent" {
		daemon.SdNotify(false, "STATUS=almost")
		daemon.SdNotify(false, "MAINPID=1\nREADY=1\nSTATUS=serving")
	}
	for range term {
		if mode != "stubborn" {
			break
		}
	}
	return 0
}

// standalone makes one whose program is this test.
func standalone(t *testing.T, mode string) Standalone {
	t.Helper()
	t.Setenv("AEGIS_TEST_DAEMON", mode)
	home, err := os.MkdirTemp("", "aegis-service-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Standalone{Home: home, Socket: filepath.Join(home, "aegisd.sock"), Program: self}
}

// started starts the daemon and returns its process.
func started(t *testing.T, s Standalone) *peer {
	t.Helper()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p, err := peerOf(s.Socket)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestStartReturnsWhenTheDaemonIsReadyAndStopWhenItIsGone(t *testing.T) {
	s := standalone(t, "ready")
	p := started(t, s)
	defer p.close()
	if sid, err := getsid(p.pid); err != nil || sid != p.pid {
		t.Errorf("session %d, %v: the daemon has none of its own", sid, err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.wait(t.Context()); err != nil {
		t.Errorf("after Stop: %v", err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Errorf("stopping one that is not there: %v", err)
	}
}

func getsid(pid int) (int, error) {
	sid, _, errno := syscall.RawSyscall(syscall.SYS_GETSID, uintptr(pid), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(sid), nil
}

func TestStartSaysWhatTheDaemonSaidLast(t *testing.T) {
	s := standalone(t, "dies")
	err := os.MkdirAll(filepath.Dir(s.Log()), 0o700)
	if err == nil {
		err = os.WriteFile(s.Log(), []byte("of an earlier day\n"), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	err = s.Start(t.Context())
	want := "aegisd ended at once (exit status 3): warming up | the database is locked | another aegisd runs"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestStartGivesUpWithItsContextAndLeavesNoDaemon(t *testing.T) {
	s := standalone(t, "silent")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() { // it listens, but does not say so
		for {
			if c, err := net.Dial("unix", s.Socket); err == nil {
				c.Close()
				cancel(fmt.Errorf("enough"))
				return
			}
		}
	}()
	err := s.Start(ctx)
	if err == nil || !strings.Contains(err.Error(), "enough") {
		t.Errorf("got %v", err)
	}
	if _, err := net.Dial("unix", s.Socket); err == nil {
		t.Error("the daemon still runs")
	}
}

func TestStopSaysThatTheDaemonDoesNotEnd(t *testing.T) {
	s := standalone(t, "stubborn")
	p := started(t, s)
	defer p.close()
	ctx, cancel := context.WithTimeout(t.Context(), 1)
	defer cancel()
	if err := s.Stop(ctx); err == nil || !strings.Contains(err.Error(), "does not end") {
		t.Errorf("got %v", err)
	}
	if err := errors.Join(p.signal(unix.SIGKILL), p.wait(t.Context())); err != nil {
		t.Error(err)
	}
}

func TestMissingProgramIsNamed(t *testing.T) {
	s := standalone(t, "ready")
	s.Program = ""
	if err := s.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "aegisd is not installed") {
		t.Errorf("got %v", err)
	}
}

func TestBigLogIsPutAside(t *testing.T) {
	s := standalone(t, "dies")
	if err := os.MkdirAll(filepath.Dir(s.Log()), 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(s.Log())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(maxLog + 1); err != nil {
		t.Fatal(err)
	}
	s.Start(t.Context())
	log, err := os.Open(s.Log())
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	b, err := io.ReadAll(log)
	if old, oldErr := os.Stat(s.Log() + ".1"); err != nil || oldErr != nil || old.Size() != maxLog+1 || len(b) > 200 {
		t.Errorf("log of %d bytes, %v, %v", len(b), err, oldErr)
	}
}
