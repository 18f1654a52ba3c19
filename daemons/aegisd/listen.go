package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"

	"github.com/xfeldman/aegisvm/api"
)

// maxSocketPath is how long the path of a unix socket may be on every system
// that we know.
const maxSocketPath = 103

// listen takes the socket that systemd passed, or makes the standalone one.
func listen(o options) (net.Listener, error) {
	passed, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("taking the socket from systemd: %w", err)
	}
	for _, l := range passed {
		if l != nil {
			return l, nil
		}
	}
	if o.system {
		return nil, api.Errorf(api.Unavailable, "no socket was passed: start aegisd.socket instead of the program")
	}
	return listenAt(filepath.Join(o.home, "aegisd.sock"))
}

// listenAt makes the socket for its owner only. Our database lock is held, so
// a socket that is there belongs to an aegisd that is not: unless somebody
// answers, it goes.
func listenAt(path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, api.Errorf(api.InvalidArgument, "socket %s: the path is longer than %d bytes: set AEGIS_HOME to a shorter folder", path, maxSocketPath)
	}
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return nil, api.Errorf(api.Exists, "socket %s: another program answers there: stop it or set AEGIS_HOME", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("removing the socket of an earlier aegisd: %w", err)
	}
	// Born with its mode: between making it and a chmod somebody could connect.
	before := syscall.Umask(0o177)
	l, err := net.Listen("unix", path)
	syscall.Umask(before)
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	return l, nil
}

// writePID tells old tools which process is aegisd; the returned function
// takes it back. Whether one runs is told by the lock, not by this file.
func writePID(o options) (remove func(), err error) {
	if o.system {
		return func() {}, nil
	}
	path := filepath.Join(o.state, "aegisd.pid")
	if err := os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil {
		return nil, fmt.Errorf("pid file: %w", err)
	}
	return func() { os.Remove(path) }, nil
}
