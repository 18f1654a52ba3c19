//go:build !linux

package workspaces

import "golang.org/x/sys/unix"

// packets is a stream where there is nothing better; each message is a byte.
const packets = unix.SOCK_STREAM
