//go:build !linux

package main

import (
	"context"
	"errors"
	"log/slog"
)

// attendTo refuses: here the machine monitor shares folders itself.
func attendTo(context.Context, options, *slog.Logger) error {
	return errors.New("serving workspaces needs Linux")
}
