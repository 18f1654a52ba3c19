package channel

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/mdlayher/vsock"

	"github.com/xfeldman/aegisvm/guest/harness/process"
	"github.com/xfeldman/aegisvm/guest/proto"
)

// virtioVsock is the device type that sysfs tells.
const virtioVsock = "0x0013"

// sockets listens on the ports of the contract.
type sockets struct {
	accepted chan incoming
}

type incoming struct {
	conn process.Conn
	port uint32
	err  error
}

func openVsock() (Channel, error) {
	if !hasVirtio(virtioVsock) {
		return nil, errAbsent
	}
	s := &sockets{accepted: make(chan incoming)}
	for _, port := range []uint32{proto.PortControl, proto.PortStream, proto.PortForward, proto.PortWorkspace} {
		l, err := vsock.Listen(port, nil)
		if err != nil {
			return nil, fmt.Errorf("listening on vsock port %d: %w", port, err)
		}
		go s.listen(l, port) // ends with the machine
	}
	return s, nil
}

// hasVirtio tells whether a virtio device of a type is bound to its driver.
func hasVirtio(device string) bool {
	types, _ := filepath.Glob("/sys/bus/virtio/devices/*/device")
	for _, t := range types {
		b, err := os.ReadFile(t)
		if err != nil || strings.TrimSpace(string(b)) != device {
			continue
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(t), "driver")); err == nil {
			return true
		}
	}
	return false
}

func (s *sockets) listen(l net.Listener, port uint32) {
	for {
		c, err := l.Accept()
		in := incoming{port: port, err: err}
		if err == nil {
			in.conn = c.(*vsock.Conn)
		}
		s.accepted <- in
		if err != nil {
			return
		}
	}
}

// Ring dials the host once; it listens since before the machine started.
func (s *sockets) Ring() error {
	c, err := vsock.Dial(vsock.Host, proto.PortDoorbell, nil)
	if err != nil {
		return fmt.Errorf("ringing the doorbell: %w", err)
	}
	return c.Close()
}

// Accept returns the next connection.
func (s *sockets) Accept() (process.Conn, uint32, error) {
	in := <-s.accepted
	return in.conn, in.port, in.err
}
