// Package proto is the contract between host and guest: the control service
// (guest.proto, served by the harness over ttrpc), the ports it is reached on
// and the prelude that turns a dialled connection into one byte stream of one
// process. It is the only package that both sides import; it opens nothing
// and imports nothing of either side.
//
// All connections but one are dialled by the host: the guest only rings the
// doorbell when it is ready to be dialled.
package proto

//go:generate protoc --go_out=. --go_opt=paths=source_relative --go-ttrpc_out=. --go-ttrpc_opt=paths=source_relative guest.proto workspace.proto

// Version is this side's contract version: major * 1000 + minor. Sides with
// equal majors understand one another.
const Version = 1006

// Ports of the guest. On vsock they are vsock ports; on a serial transport
// they are sent as the first four bytes of a multiplexed stream.
const (
	// PortControl answers ttrpc calls of the Guest service.
	PortControl = 1024
	// PortStream answers a Prelude and carries nothing but bytes after it.
	PortStream = 1025
	// PortDoorbell is dialled by the guest, once per boot, when the harness
	// is ready; the connection carries nothing and is closed.
	PortDoorbell = 1026
	// PortForward answers a forward.Target and then carries what the host and
	// a program of the guest say to one another. Since version 1005.
	PortForward = 1027
)

// Major tells the major part of a contract version.
func Major(version uint32) uint32 { return version / 1000 }
