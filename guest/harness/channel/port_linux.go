package channel

import (
	"fmt"
	"os"

	"github.com/xfeldman/aegisvm/guest/harness/quick"
)

// port is an open virtio-serial port. To the kernel a host that is not
// connected is an end of the file; to us it is one to wait for.
type port struct{ file *quick.File }

func openPort(device string) (port, error) {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return port{}, fmt.Errorf("opening the control port: %w", err)
	}
	q, err := quick.New(f)
	if err != nil {
		f.Close()
		return port{}, fmt.Errorf("opening the control port: %w", err)
	}
	return port{q}, nil
}

// Read waits for bytes, for the host if need be.
func (p port) Read(b []byte) (int, error) { return p.file.ReadPages(b) }

// Write writes all of b; the kernel takes 32 KiB at a time.
func (p port) Write(b []byte) (int, error) { return p.file.Write(b) }

// Close closes the port and wakes its reader.
func (p port) Close() error { return p.file.Close() }
