package workspaces

import "golang.org/x/sys/unix"

// packets keeps messages apart and tells when the other side has gone.
const packets = unix.SOCK_SEQPACKET
