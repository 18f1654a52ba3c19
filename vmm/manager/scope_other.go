//go:build !linux

package manager

import "github.com/godbus/dbus/v5"

func processProperty(pid int) (p property, done func(), err error) {
	return property{"PIDs", dbus.MakeVariant([]uint32{uint32(pid)})}, func() {}, nil
}
