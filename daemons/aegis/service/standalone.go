// Package service starts and stops aegisd: a standalone one as a process of
// the caller's, the system's through systemd. It waits for events of theirs
// (readiness, exit, the end of a systemd job) and touches no state of theirs.
package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// startTimeout is how long aegisd may take to be ready: after a crash it
// reconciles first.
const startTimeout = time.Minute

// stopTimeout is how long it may take to end after SIGTERM.
const stopTimeout = 30 * time.Second

// maxLog is the size in bytes at which the log is put aside at the next start.
const maxLog = 8 << 20

// Standalone is an aegisd of the caller's own.
type Standalone struct {
	// Home is its directory, Socket its REST socket.
	Home, Socket string
	// Program is the daemon's path; empty means that it is looked for.
	Program string
}

// Log is where it logs.
func (s Standalone) Log() string { return filepath.Join(s.Home, "data", "aegisd.log") }

// Start starts aegisd, in a session of its own, and returns when it serves.
// If it ends instead, the error has the last lines of its log.
func (s Standalone) Start(ctx context.Context) error {
	if s.Program == "" {
		found, err := program("aegisd")
		if err != nil {
			return err
		}
		s.Program = found
	}
	log, err := s.openLog()
	if err != nil {
		return fmt.Errorf("log of aegisd: %w", err)
	}
	defer log.Close()
	from, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("log of aegisd: %w", err)
	}
	notify, err := listenNotify()
	if err != nil {
		return err
	}
	defer notify.close()
	cmd := exec.Command(s.Program, "--standalone", "--home", s.Home)
	cmd.Dir = "/"
	cmd.Env = append(without(os.Environ(), "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"), "NOTIFY_SOCKET="+notify.path)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting aegisd: %w", err)
	}
	return s.awaitReady(ctx, cmd, notify, from)
}

// awaitReady waits until aegisd is ready, has ended, or has had its time.
func (s Standalone) awaitReady(ctx context.Context, cmd *exec.Cmd, notify *notifySocket, from int64) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // ends with aegisd, or with us
	ready := notify.await()
	select {
	case err := <-ready:
		if err != nil {
			return fmt.Errorf("waiting for aegisd: %w", err)
		}
		return nil
	case err := <-ended:
		return s.died(err, from)
	case <-ctx.Done():
		cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		return fmt.Errorf("aegisd was not ready in time and was stopped: see %s: %w", s.Log(), context.Cause(ctx))
	}
}

// died says how aegisd ended and what it said last.
func (s Standalone) died(err error, from int64) error {
	how := "exit code 0"
	if err != nil {
		how = err.Error()
	}
	said := tail(s.Log(), from)
	if said == "" {
		return fmt.Errorf("aegisd ended at once (%s) and said nothing: see %s", how, s.Log())
	}
	return fmt.Errorf("aegisd ended at once (%s): %s", how, said)
}

// openLog opens the log for appending and puts a big one aside.
func (s Standalone) openLog() (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(s.Log()), 0o700); err != nil {
		return nil, err
	}
	if st, err := os.Stat(s.Log()); err == nil && st.Size() > maxLog {
		if err := os.Rename(s.Log(), s.Log()+".1"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(s.Log(), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
}

// tail returns the last three lines that a log has got after from, as one.
func tail(path string, from int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	const limit = 64 << 10
	if st, err := f.Stat(); err == nil {
		from = max(from, st.Size()-limit)
	}
	b, err := io.ReadAll(io.NewSectionReader(f, from, limit))
	if err != nil {
		return ""
	}
	lines := strings.Split(string(bytes.TrimSpace(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], " | ")
}

// Stop asks the aegisd behind the socket to end and returns when its process
// is gone. Its machines are none of its business.
func (s Standalone) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	p, err := peerOf(s.Socket)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("finding the process of aegisd: %w", err)
	}
	defer p.close()
	if err := p.terminate(); err != nil {
		return fmt.Errorf("stopping aegisd (process %d): %w", p.pid, err)
	}
	if err := p.wait(ctx); err != nil {
		return fmt.Errorf("aegisd (process %d) does not end: see %s: %w", p.pid, s.Log(), err)
	}
	return nil
}

// without returns env without some variables.
func without(env []string, names ...string) []string {
	var out []string
next:
	for _, kv := range env {
		for _, n := range names {
			if strings.HasPrefix(kv, n+"=") {
				continue next
			}
		}
		out = append(out, kv)
	}
	return out
}
