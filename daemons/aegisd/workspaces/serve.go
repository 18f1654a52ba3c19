package workspaces

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/api"
)

// exitCannot is aegis-fsd's exit code when it will never be able to serve.
const exitCannot = 3

// longest is how long is waited at most before something is tried again.
const longest = time.Second

// Serve runs the server of a machine's workspace until ctx ends, and returns
// when it has gone. A server that dies is started again, and goes on where it
// was; an error is one that will not go away. dial gives a new stream of the
// guest.
func (k *Keeper) Serve(ctx context.Context, machine, folder string, dial func(context.Context) (*os.File, error)) error {
	if err := os.MkdirAll(k.mount(machine), 0o700); err != nil {
		return fmt.Errorf("workspace: %w", err)
	}
	for backoff := 10 * time.Millisecond; ; backoff = min(2*backoff, longest) {
		began := time.Now()
		err := k.serveOnce(ctx, machine, folder, dial)
		if ctx.Err() != nil {
			return nil
		}
		var exit *exec.ExitError
		if errors.Is(err, os.ErrNotExist) || errors.As(err, &exit) && exit.ExitCode() == exitCannot {
			return cannot(err)
		}
		k.Log.Warn("the server of a workspace has ended and is started again", "machine", machine, "error", err)
		if time.Since(began) > longest {
			backoff = 10 * time.Millisecond
		}
		if !pause(ctx, backoff) {
			return nil
		}
	}
}

func cannot(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return api.Errorf(api.Unavailable, "workspace: %s", strings.TrimSpace(string(exit.Stderr)))
	}
	return api.Errorf(api.Unavailable, "workspace: %v: run make build, or install the package aegisvm", err)
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// serveOnce runs one server process and feeds it streams until it ends.
func (k *Keeper) serveOnce(ctx context.Context, machine, folder string, dial func(context.Context) (*os.File, error)) error {
	ours, theirs, err := socketPair()
	if err != nil {
		return err
	}
	defer ours.Close()
	last := &tail{}
	cmd := exec.Command(k.Server, "-root", folder, "-state", k.mount(machine))
	cmd.Env = []string{}
	cmd.ExtraFiles, cmd.Stderr = []*os.File{theirs}, last
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() {
		ours.Close()
		cmd.Process.Kill()
	})
	defer stop()
	fed := make(chan struct{})
	go func() { // ends with ctx and with the process, which has the other end
		defer close(fed)
		feed(ctx, ours, dial)
	}()
	err = cmd.Wait()
	cancel()
	<-fed
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		exit.Stderr = last.bytes()
	}
	if err == nil {
		err = io.EOF
	}
	return err
}

// plenty is how many streams may be used up at once: more than a mount needs,
// fewer than what a guest could ask for without end.
const plenty = 4

// feed passes a stream, and another one whenever the server asks for it.
func feed(ctx context.Context, server *net.UnixConn, dial func(context.Context) (*os.File, error)) {
	quick := 0
	for backoff := 10 * time.Millisecond; ctx.Err() == nil; {
		stream, err := dial(ctx)
		if err != nil {
			if !pause(ctx, backoff) {
				return
			}
			backoff = min(2*backoff, longest)
			continue
		}
		began := time.Now()
		_, _, err = server.WriteMsgUnix([]byte{1}, unix.UnixRights(int(stream.Fd())), nil)
		stream.Close()
		if err != nil {
			return
		}
		if n, err := server.Read(make([]byte, 1)); err != nil || n == 0 {
			return
		}
		switch quick++; {
		case time.Since(began) > longest:
			backoff, quick = 10*time.Millisecond, 0
		case quick < plenty:
		case !pause(ctx, backoff):
			return
		default:
			backoff = min(2*backoff, longest)
		}
	}
}

// socketPair makes a connection of packets.
func socketPair() (*net.UnixConn, *os.File, error) {
	syscall.ForkLock.RLock()
	fds, err := unix.Socketpair(unix.AF_UNIX, packets, 0)
	if err == nil {
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "server's end")
	mine := os.NewFile(uintptr(fds[0]), "our end")
	defer mine.Close()
	c, err := net.FileConn(mine)
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("making a socket pair: %w", err)
	}
	return c.(*net.UnixConn), theirs, nil
}

// tail keeps the last of what a server said.
type tail struct {
	mu sync.Mutex // guards the field below
	b  []byte
}

const tailSize = 2048

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if len(t.b) > tailSize {
		t.b = append([]byte(nil), t.b[len(t.b)-tailSize:]...)
	}
	return len(p), nil
}

func (t *tail) bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]byte(nil), t.b...)
}
