package channel

import (
	"context"
	"errors"
	"fmt"

	"github.com/xfeldman/aegisvm/guest/harness/process"
	"github.com/xfeldman/aegisvm/guest/harness/uevent"
	"github.com/xfeldman/aegisvm/guest/proto/link"
)

// Channel is where the host dials in.
type Channel interface {
	// Ring tells the host that it may.
	Ring() error
	// Accept returns the next connection and its port; an error is final.
	Accept() (process.Conn, uint32, error)
}

// errAbsent says that a device is not there (yet).
var errAbsent = errors.New("not there")

// Open opens the channel of this machine. It waits for the device until ctx
// ends; events tells when one may have come.
func Open(ctx context.Context, events *uevent.Listener) (Channel, error) {
	for {
		c, err := open()
		if !errors.Is(err, errAbsent) {
			return c, err
		}
		if err := events.Wait(ctx); err != nil {
			return nil, fmt.Errorf("waiting for a vsock device or a serial port named %s: %w", link.PortName, err)
		}
	}
}

func open() (Channel, error) {
	c, err := openVsock()
	if errors.Is(err, errAbsent) {
		return openSerial()
	}
	return c, err
}
