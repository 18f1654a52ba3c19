package forward

import "net"

// Stream is a connection of which one direction can be ended.
type Stream interface {
	net.Conn
	CloseWrite() error
}
