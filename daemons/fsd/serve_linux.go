package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"

	"github.com/landlock-lsm/go-landlock/landlock"
	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/workspace"
)

// serve serves until the socket or ctx ends.
func serve(ctx context.Context, root, state string, log *slog.Logger) error {
	unix.Umask(0) // modes are the guest's to choose
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("turning off core dumps: %w", err)
	}
	folder, err := os.OpenFile(root, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return errors.Join(errCannot, err)
	}
	defer folder.Close()
	socket := os.NewFile(control, "control")
	c, err := net.FileConn(socket)
	socket.Close()
	if err != nil {
		return fmt.Errorf("the socket of streams: %w", err)
	}
	streams, ok := c.(*net.UnixConn)
	if !ok {
		return errors.New("the socket of streams is none of this host")
	}
	s, err := workspace.Open(workspace.Config{Root: folder, State: state, Log: log})
	if err != nil {
		return err
	}
	defer s.Close()
	if err := confine(root, state); err != nil {
		return err
	}
	return s.ServeStreams(ctx, streams)
}

// confine lets the kernel see to it as well that nothing but the two folders
// is reached.
func confine(root, state string) error {
	err := landlock.V5.BestEffort().RestrictPaths(landlock.RWDirs(root, state).WithRefer())
	if err != nil {
		return fmt.Errorf("confining the server: %w", err)
	}
	return nil
}
