//go:build !linux

package main

import (
	"context"
	"fmt"
	"log/slog"
)

// serve refuses: here the machine monitor shares folders itself.
func serve(context.Context, string, string, *slog.Logger) error {
	return fmt.Errorf("%w: it needs Linux", errCannot)
}
