package cloudhypervisor

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/xfeldman/aegisvm/vmm/monitor"
)

// maxAnswer bounds what is read of an answer: the monitor is as trusted as its
// guest.
const maxAnswer = 64 << 10

// control is a client of Cloud Hypervisor's API on its socket.
type control struct{ client *http.Client }

func newControl(socket string) *control {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return &control{&http.Client{Transport: &http.Transport{DialContext: dial, DisableCompression: true, MaxConnsPerHost: 1}}}
}

func (c *control) close() { c.client.CloseIdleConnections() }

// put asks for an action and waits for its end; arguments may be nil.
func (c *control) put(ctx context.Context, action string, arguments any) error {
	body := io.Reader(http.NoBody)
	if arguments != nil {
		b, err := json.Marshal(arguments)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://localhost/api/v1/"+action, body)
	if err != nil {
		return err
	}
	answer, err := c.client.Do(r)
	if err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%s: reading the answer: %w", action, err)
	}
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("%s: cloud-hypervisor answered %s: %s", action, answer.Status, monitor.Printable(string(said)))
	}
	return nil
}
