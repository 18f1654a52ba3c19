package manager

import (
	"fmt"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// processProperty names a process for a scope: by a descriptor, which cannot
// come to mean another one; done closes that.
func processProperty(pid int) (p property, done func(), err error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return property{}, nil, fmt.Errorf("holding the worker: %w", err)
	}
	return property{"PIDFDs", dbus.MakeVariant([]dbus.UnixFD{dbus.UnixFD(fd)})}, func() { unix.Close(fd) }, nil
}
