package channel

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/xfeldman/aegisvm/guest/harness/process"
	"github.com/xfeldman/aegisvm/guest/proto/link"
)

// serial is a link over a serial port.
type serial struct {
	port *port
	link *link.Server
}

func openSerial() (Channel, error) {
	device, err := find(link.PortName)
	if err != nil {
		return nil, err
	}
	p, err := openPort(device)
	if err != nil {
		return nil, err
	}
	return &serial{port: p}, nil
}

// find returns the device node of the port with a name. The kernel learns the
// name from the host after the port has come.
func find(name string) (string, error) {
	names, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
	for _, n := range names {
		if b, err := os.ReadFile(n); err == nil && strings.TrimSpace(string(b)) == name {
			return "/dev/" + filepath.Base(filepath.Dir(n)), nil
		}
	}
	return "", errAbsent
}

// Ring rings before the link reads its first byte.
func (s *serial) Ring() error {
	if err := link.Ring(s.port); err != nil {
		return err
	}
	s.link = link.Serve(s.port)
	return nil
}

// Accept returns the next stream. It needs Ring.
func (s *serial) Accept() (process.Conn, uint32, error) {
	c, port, err := s.link.Accept()
	if err != nil {
		return nil, 0, fmt.Errorf("serial port %s: %w", link.PortName, err)
	}
	return c, port, nil
}
