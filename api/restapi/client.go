package restapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"github.com/xfeldman/aegisvm/api"
)

// Client speaks to the daemon behind a unix socket. It is an api.Aegis; the
// Caller given to Create is ignored, the daemon asks the kernel.
type Client struct {
	path string
	http http.Client
}

var _ api.Aegis = (*Client)(nil)

// NewClient makes a client of the socket at path. It connects with each call
// that needs it, so a daemon that is not running yet is no error here.
func NewClient(path string) *Client {
	c := &Client{path: path}
	c.http.Transport = &http.Transport{
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
		MaxIdleConnsPerHost: 2,
		IdleConnTimeout:     time.Minute,
	}
	return c
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Create implements api.Aegis.
func (c *Client) Create(ctx context.Context, _ api.Caller, spec api.InstanceSpec) (in api.Instance, err error) {
	return in, c.call(ctx, http.MethodPost, "/v1/instances", spec, &in)
}

// Get implements api.Aegis.
func (c *Client) Get(ctx context.Context, ref string) (in api.Instance, err error) {
	return in, c.call(ctx, http.MethodGet, instance(ref, ""), nil, &in)
}

// List implements api.Aegis.
func (c *Client) List(ctx context.Context) (all []api.Instance, err error) {
	return all, c.call(ctx, http.MethodGet, "/v1/instances", nil, &all)
}

// Start implements api.Aegis.
func (c *Client) Start(ctx context.Context, ref string) (in api.Instance, err error) {
	return in, c.call(ctx, http.MethodPost, instance(ref, "/start"), nil, &in)
}

// Stop implements api.Aegis.
func (c *Client) Stop(ctx context.Context, ref string) (in api.Instance, err error) {
	return in, c.call(ctx, http.MethodPost, instance(ref, "/stop"), nil, &in)
}

// Delete implements api.Aegis.
func (c *Client) Delete(ctx context.Context, ref string) error {
	return c.call(ctx, http.MethodDelete, instance(ref, ""), nil, nil)
}

// Signal implements api.Aegis.
func (c *Client) Signal(ctx context.Context, ref string, signal int) error {
	return c.call(ctx, http.MethodPost, instance(ref, "/signal"), signalRequest{signal}, nil)
}

// Status implements api.Aegis.
func (c *Client) Status(ctx context.Context) (st api.Status, err error) {
	return st, c.call(ctx, http.MethodGet, "/v1/status", nil, &st)
}

func instance(ref, rest string) string { return "/v1/instances/" + url.PathEscape(ref) + rest }

// call sends a request and reads its answer into out.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	req, err := newRequest(ctx, method, path, in)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.transport(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return readError(resp)
	}
	if out == nil {
		out = &struct{}{}
	}
	return decodeAnswer(req, resp, out)
}

func decodeAnswer(req *http.Request, resp *http.Response, out any) error {
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return api.Errorf(api.Unavailable, "%s %s: reading the answer of aegisd: %w", req.Method, req.URL.Path, err)
	}
	return nil
}

func newRequest(ctx context.Context, method, path string, in any) (*http.Request, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, api.Errorf(api.InvalidArgument, "%s %s: %w", method, path, err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://aegis"+path, body)
	if err != nil {
		return nil, api.Errorf(api.InvalidArgument, "%s %s: %w", method, path, err)
	}
	return req, nil
}

// readError turns a refusal into the error that the daemon meant.
func readError(resp *http.Response) error {
	e := &api.Error{}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if json.Unmarshal(body, e) == nil && e.Message != "" {
		if e.Code == "" {
			e.Code = api.Internal
		}
		return e
	}
	return api.Errorf(api.Internal, "aegisd answered %s: is it the same version as this program?", resp.Status)
}

// transport names what went wrong below HTTP.
func (c *Client) transport(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return api.Errorf(api.Unavailable, "waiting for aegisd: %w", context.Cause(ctx))
	}
	var already *api.Error
	if errors.As(err, &already) {
		return already
	}
	return api.Errorf(api.Unavailable, "aegisd went away during the request: see its log, then `aegis up`: %w", err)
}

// dial connects to the daemon.
func (c *Client) dial(ctx context.Context) (*net.UnixConn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.path)
	switch {
	case err == nil:
		return conn.(*net.UnixConn), nil
	case ctx.Err() != nil:
		return nil, err
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, api.Errorf(api.Unavailable, "aegisd is not running: start it with `aegis up`")
	case errors.Is(err, fs.ErrPermission):
		return nil, api.Errorf(api.Denied, "%s: permission denied: become its owner or a member of its group", c.path)
	default:
		return nil, api.Errorf(api.Unavailable, "connecting to aegisd: %w", fmt.Errorf("%s: %w", c.path, err))
	}
}
