//go:build unix

package store

import (
	"os"

	"golang.org/x/sys/unix"
)

// flock takes the lock of f or fails at once. The kernel drops it when the
// process ends, however it ends.
func flock(f *os.File) error {
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
}
