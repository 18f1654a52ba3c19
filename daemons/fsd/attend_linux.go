package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/user"
	"strconv"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/xfeldman/aegisvm/workspace/attend"
)

// attendTo answers the request that comes over descriptor 3.
func attendTo(ctx context.Context, o options, log *slog.Logger) error {
	peer, err := o.asks()
	if err != nil {
		return err
	}
	socket := os.NewFile(control, "control")
	c, err := net.FileConn(socket)
	socket.Close()
	if err != nil {
		return fmt.Errorf("the connection: %w", err)
	}
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return errors.New("the connection is none of this host")
	}
	defer conn.Close()
	return attend.Attend(ctx, conn, attend.Config{
		State: o.state, Named: o.named, Apart: o.apart,
		Peer: peer, Everybody: o.peer != "", Alone: true, Log: log,
		Tell: func(text string) { _, _ = daemon.SdNotify(false, "STATUS="+text) },
	})
}

// asks is who may ask.
func (o options) asks() (uint32, error) {
	if o.peer == "" {
		return uint32(os.Geteuid()), nil
	}
	u, err := user.Lookup(o.peer)
	if err != nil {
		return 0, fmt.Errorf("who may ask: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("who may ask: %w", err)
	}
	return uint32(uid), nil
}
