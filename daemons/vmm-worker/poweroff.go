package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/ttrpc"

	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/vmm"
)

// processGrace is how long the guest's processes have after their SIGTERM.
const processGrace = 5 * time.Second

// askLimit bounds the call itself, which answers before anything ends.
const askLimit = 5 * time.Second

// poweroff asks the guest to leave in order.
func poweroff(ctx context.Context, m vmm.Machine) error {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	conn, err := m.Connect(ctx, proto.PortControl)
	if err != nil {
		return fmt.Errorf("dialling the guest: %w", err)
	}
	client := ttrpc.NewClient(conn)
	defer client.Close()
	guest := proto.NewGuestClient(client)
	if _, err := guest.Hello(ctx, &proto.HelloRequest{Version: proto.Version}); err != nil {
		return fmt.Errorf("greeting the guest: %w", err)
	}
	grace := proto.PoweroffRequest{GraceMs: uint32(processGrace.Milliseconds())}
	_, err = guest.Poweroff(ctx, &grace)
	if errors.Is(err, ttrpc.ErrClosed) {
		return nil // it has left, or is about to, without a word
	}
	if err != nil {
		return fmt.Errorf("asking the guest to leave: %w", err)
	}
	return nil
}
