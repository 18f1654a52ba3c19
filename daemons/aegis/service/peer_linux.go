package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// peer is the process that listens on a socket, held by a descriptor: its
// number may be given to another process, the descriptor never is.
type peer struct {
	pid   int
	pidfd *os.File
}

// peerOf finds the process that listens on a unix socket.
func peerOf(socket string) (*peer, error) {
	pid, err := listener(socket)
	if err != nil {
		return nil, err
	}
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	p := &peer{pid: pid, pidfd: os.NewFile(uintptr(fd), "pidfd")}
	// Between the two calls the process may have ended and its number may be
	// another's. If it still listens, it was alive when it was opened.
	again, err := listener(socket)
	if err == nil && again != pid {
		err = errors.New("aegisd is being restarted: try again")
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// listener asks the kernel who called listen(2) on a socket.
func listener(socket string) (int, error) {
	conn, err := net.DialTimeout("unix", socket, 5*time.Second)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) { cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, failed); err != nil {
		return 0, err
	}
	if cred.Pid <= 1 {
		return 0, fmt.Errorf("socket %s belongs to systemd: stop it with systemctl", socket)
	}
	return int(cred.Pid), nil
}

func (p *peer) terminate() error { return p.signal(unix.SIGTERM) }

func (p *peer) signal(sig unix.Signal) (err error) {
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	if e := raw.Control(func(fd uintptr) { err = unix.PidfdSendSignal(int(fd), sig, nil, 0) }); e != nil {
		return e
	}
	if errors.Is(err, unix.ESRCH) {
		return nil // it has ended already
	}
	return err
}

// wait returns when the process has ended.
func (p *peer) wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { p.pidfd.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	err = raw.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		return err == nil && n == 1
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (p *peer) close() { p.pidfd.Close() }
