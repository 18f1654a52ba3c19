package main

import (
	"context"
	"errors"
	"testing"
)

func TestNoPartFailsUnheard(t *testing.T) {
	why := errors.New("cannot hear systemd")
	serve := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	stops := func(context.Context) error { return why }
	if err := together(t.Context(), stops, serve); !errors.Is(err, why) {
		t.Errorf("error %v", err)
	}
}
