package restapi

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"

	"github.com/xfeldman/aegisvm/api"
)

// Attach implements api.Aegis.
func (c *Client) Attach(ctx context.Context, ref string) (*api.Streams, error) {
	streams, _, err := c.ofProgram(ctx, instance(ref, "/attach"), nil)
	return streams, err
}

// ofProgram asks for the streams of a program, and for the headers beside
// them.
func (c *Client) ofProgram(ctx context.Context, path string, body any) (*api.Streams, http.Header, error) {
	streams, header, err := c.streamsFor(ctx, path, body)
	if err == nil && streams.Status == nil {
		streams.Close()
		return nil, nil, c.transport(ctx, errIncomplete)
	}
	return streams, header, err
}

// streams asks for what path hands out.
func (c *Client) streams(ctx context.Context, path string) (*api.Streams, error) {
	streams, _, err := c.streamsFor(ctx, path, nil)
	return streams, err
}

func (c *Client) streamsFor(ctx context.Context, path string, body any) (*api.Streams, http.Header, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, nil, c.transport(ctx, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	header, err := upgrade(ctx, conn, path, body)
	if err != nil {
		return nil, nil, c.transport(ctx, err)
	}
	streams, err := receiveStreams(conn)
	if err != nil {
		return nil, nil, c.transport(ctx, err)
	}
	return streams, header, nil
}

// upgrade asks for the streams and tells the daemon that nothing of them can
// get lost in a buffer any more.
func upgrade(ctx context.Context, conn net.Conn, path string, body any) (http.Header, error) {
	req, err := newRequest(ctx, http.MethodPost, path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", Protocol)
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, readError(resp)
	}
	_, err = conn.Write([]byte{0})
	return resp.Header, err
}

// ask sends a request whose answer is a stream.
func (c *Client) ask(req *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.transport(req.Context(), err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, readError(resp)
	}
	return resp, nil
}

// Events implements api.Aegis.
func (c *Client) Events(ctx context.Context) (<-chan api.Event, error) {
	req, err := newRequest(ctx, http.MethodGet, "/v1/events", nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.ask(req)
	if err != nil {
		return nil, err
	}
	out := make(chan api.Event)
	go follow(ctx, resp.Body, out)
	return out, nil
}

// follow ends with the stream, with a line that is an error, or with ctx,
// which closes body.
func follow(ctx context.Context, body io.ReadCloser, out chan<- api.Event) {
	defer close(out)
	defer body.Close()
	for d := json.NewDecoder(body); ; {
		var l line
		if d.Decode(&l) != nil || l.Error != "" {
			return
		}
		select {
		case out <- l.Event:
		case <-ctx.Done():
			return
		}
	}
}
