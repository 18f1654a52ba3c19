package uevent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Listener hears of every change since it was made, so look first and wait
// after.
type Listener struct{ file *os.File }

// group is the multicast group of the kernel's own events.
const group = 1

// Listen starts listening.
func Listen() (*Listener, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("listening for device events: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: group}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listening for device events: %w", err)
	}
	return &Listener{os.NewFile(uintptr(fd), "uevents")}, nil
}

// Wait returns after the next change. An overflow of the kernel's queue is
// one, too.
func (l *Listener) Wait(ctx context.Context) error {
	l.file.SetReadDeadline(time.Time{})
	stop := context.AfterFunc(ctx, func() { l.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	_, err := l.file.Read(make([]byte, 8<<10))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil && !isOverflow(err) {
		return fmt.Errorf("listening for device events: %w", err)
	}
	return nil
}

// Close stops listening.
func (l *Listener) Close() error { return l.file.Close() }

func isOverflow(err error) bool { return errors.Is(err, unix.ENOBUFS) }
