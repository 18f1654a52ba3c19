package bus_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/bus/bustest"
)

func TestAServiceComesBackToABusThatWasLost(t *testing.T) {
	address := bustest.Start(t)
	ctx, cancel := context.WithCancel(t.Context())
	visits := 0
	err := bus.Stay(ctx, address, slog.New(slog.DiscardHandler), func(ctx context.Context, c *bus.Conn) error {
		visits++
		if err := c.Claim(ctx, name); err != nil {
			t.Errorf("visit %d: %v", visits, err)
		}
		if visits == 2 {
			cancel()
			return ctx.Err()
		}
		c.Close()
		return api.Errorf(api.Unavailable, "lost")
	})
	if err != nil || visits != 2 {
		t.Errorf("%d visits (%v), 2 expected", visits, err)
	}
}

func TestAServiceThatFailsIsNotTriedForEver(t *testing.T) {
	address, why := bustest.Start(t), errors.New("no disk")
	err := bus.Stay(t.Context(), address, slog.New(slog.DiscardHandler), func(context.Context, *bus.Conn) error { return why })
	if !errors.Is(err, why) {
		t.Errorf("error %v, %v expected", err, why)
	}
}
