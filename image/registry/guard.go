package registry

import (
	"cmp"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/xfeldman/aegisvm/api"
)

const (
	defaultPatience = time.Minute
	// maxDocument bounds every answer but a blob, whose size the caller knows.
	maxDocument = 4 << 20
)

// guard has the connections to registries.
type guard struct {
	secure, insecure *http.Transport
	patience         time.Duration
}

func newGuard(patience time.Duration) *guard {
	g := &guard{secure: newTransport(), insecure: newTransport(), patience: cmp.Or(patience, defaultPatience)}
	// Only for hosts that the configuration names.
	g.insecure.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	return g
}

func newTransport() *http.Transport {
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2: true, MaxIdleConnsPerHost: Jobs, IdleConnTimeout: 30 * time.Second,
		TLSHandshakeTimeout: 15 * time.Second, MaxResponseHeaderBytes: 64 << 10,
	}
}

func (g *guard) close() {
	g.secure.CloseIdleConnections()
	g.insecure.CloseIdleConnections()
}

// with makes a transport that speaks plain HTTP to the given hosts only. The
// library below would do so, unasked, to private addresses, too.
func (g *guard) with(insecure []string) *guarded { return &guarded{g, insecure} }

type guarded struct {
	*guard
	plain []string
}

var _ http.RoundTripper = (*guarded)(nil)

// RoundTrip implements http.RoundTripper.
func (g *guarded) RoundTrip(req *http.Request) (*http.Response, error) {
	via := g.secure
	if slices.Contains(g.plain, req.URL.Host) {
		via = g.insecure
	} else if req.URL.Scheme != "https" {
		return nil, api.Errorf(api.Unavailable, "%s cannot be reached by HTTPS, and plain HTTP is not allowed: list it under \"insecure\" in registries.json if you trust the network to it", req.URL.Host)
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	w := &watched{limit: maxDocument, cancel: cancel, ctx: ctx, outer: req.Context(), patience: g.patience}
	w.silence = api.Errorf(api.Unavailable, "%s: nothing came for %v: try again later", req.URL.Host, g.patience)
	w.timer = time.AfterFunc(g.patience, func() { cancel(w.silence) })
	resp, err := via.RoundTrip(req.WithContext(ctx))
	w.timer.Stop()
	if err != nil {
		err = w.cause(err)
		cancel(nil)
		return nil, err
	}
	if isBlob(req) && resp.StatusCode/100 == 2 {
		w.limit = -1
	}
	w.body, resp.Body = resp.Body, w
	return resp, nil
}

// isBlob tells whether a request, or the first one of those that redirected
// to it, was for a blob.
func isBlob(req *http.Request) bool {
	for req.Response != nil && req.Response.Request != nil {
		req = req.Response.Request
	}
	return strings.Contains(req.URL.Path, "/blobs/")
}

// watched is a body that ends when nothing comes for too long, or too much.
type watched struct {
	body     io.ReadCloser
	limit    int64 // bytes that may still come; negative means any number
	patience time.Duration
	timer    *time.Timer
	silence  error

	ctx, outer context.Context
	cancel     context.CancelCauseFunc
}

func (w *watched) Read(p []byte) (int, error) {
	w.timer.Reset(w.patience)
	n, err := w.body.Read(p)
	w.timer.Stop()
	if w.limit >= 0 {
		if w.limit -= int64(n); w.limit < 0 {
			return 0, api.Errorf(api.LimitExceeded, "the registry's answer has more than %d bytes", maxDocument)
		}
	}
	if err != nil && err != io.EOF {
		err = w.cause(err)
	}
	return n, err
}

func (w *watched) Close() error {
	w.timer.Stop()
	err := w.body.Close()
	w.cancel(nil)
	return err
}

// cause says that it was silence that ended a request.
func (w *watched) cause(err error) error {
	if w.outer.Err() == nil && context.Cause(w.ctx) == w.silence {
		return w.silence
	}
	return err
}
