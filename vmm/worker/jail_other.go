//go:build !linux

package worker

import (
	"fmt"
	"log/slog"
	"runtime"
)

// Imprison needs Linux.
func Imprison(Plan, *slog.Logger) error {
	return fmt.Errorf("the jail of a worker is not supported on %s", runtime.GOOS)
}
