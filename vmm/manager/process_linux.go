package manager

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// sendersAreKnown is whether the kernel tells which process a worker is.
const sendersAreKnown = true

// foreign is a process that is not our child, held by a pidfd: the number may
// be given to another, the descriptor is not.
type foreign struct {
	fd   *os.File
	done chan struct{}
}

// findProcess holds a process by its number; done is for where there are no
// pidfds. One that is gone is told as such at once; an error says that nobody
// knows, for want of a descriptor, say.
func findProcess(pid int, _ <-chan struct{}) (Process, error) {
	p, err := hold(pid)
	if errors.Is(err, unix.ESRCH) {
		closed := make(chan struct{})
		close(closed)
		return answering{done: closed}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("holding process %d: %w", pid, err)
	}
	return p, nil
}

// hold holds a process by its number, until it is gone or released.
func hold(pid int) (*foreign, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	p := &foreign{fd: os.NewFile(uintptr(fd), fmt.Sprintf("process %d", pid)), done: make(chan struct{})}
	go p.watch()
	return p, nil
}

// watch ends with the process or with release.
func (p *foreign) watch() {
	defer p.fd.Close()
	raw, err := p.fd.SyscallConn()
	if err != nil {
		return
	}
	over := false
	// A pidfd is readable when its process is gone, and cannot be read.
	_ = raw.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		over = err == nil && n == 1
		return over
	})
	if over {
		close(p.done)
	}
}

func (p *foreign) Done() <-chan struct{} { return p.done }

func (p *foreign) Kill() error {
	raw, err := p.fd.SyscallConn()
	if err != nil {
		return nil // closed: it is gone
	}
	var kill error
	if raw.Control(func(fd uintptr) { kill = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) }) != nil {
		return nil
	}
	if errors.Is(kill, unix.ESRCH) {
		return nil
	}
	return kill
}

func (p *foreign) release() { p.fd.Close() }
