//go:build !linux

package worker

import (
	"fmt"
	"log/slog"
	"runtime"
)

// MayUnshare is false: there are no namespaces here.
func MayUnshare() bool { return false }

// MissingWalls says that there is no jail here.
func MissingWalls(bool) []string { return []string{"all of them: they need Linux"} }

// Imprison needs Linux.
func Imprison(Plan, *slog.Logger) error {
	return fmt.Errorf("the jail of a worker is not supported on %s", runtime.GOOS)
}

// Confine needs Linux.
func Confine() error { return fmt.Errorf("confining a worker is not supported on %s", runtime.GOOS) }
