package front

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"time"

	"github.com/xfeldman/aegisvm/api"
)

// ways carry requests to programs, in the protocol that they came in: one of
// HTTP/1 on a connection of its own, so that none is lost because the program
// ends an idle one; those of HTTP/2 on one for all.
type ways struct{ one, two *http.Transport }

// spare is how long a connection of HTTP/2 is kept for the next request, with
// its instance awake.
const spare = time.Second

func newWays(dial func(ctx context.Context, network, address string) (net.Conn, error)) ways {
	way := func() *http.Transport {
		return &http.Transport{
			DialContext: dial, DisableCompression: true,
			MaxResponseHeaderBytes: 4 * maxHeader, Protocols: new(http.Protocols),
		}
	}
	w := ways{one: way(), two: way()}
	w.one.DisableKeepAlives = true
	w.one.Protocols.SetHTTP1(true)
	w.two.IdleConnTimeout = spare
	w.two.Protocols.SetUnencryptedHTTP2(true)
	return w
}

func (w ways) close() {
	w.one.CloseIdleConnections()
	w.two.CloseIdleConnections()
}

// proxy carries requests of one version of HTTP to a target. What an answer
// says is passed on at once; nothing but the kernel's buffers and one of 32
// KiB is between the two ends.
func (w ways) proxy(t Target, version int, refuse func(http.ResponseWriter, *http.Request, error)) *httputil.ReverseProxy {
	way := w.one
	if version >= 2 {
		way = w.two
	}
	return &httputil.ReverseProxy{
		Transport: way, FlushInterval: -1, ErrorHandler: refuse,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0),
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host = "http", t.address()
			p.Out.URL.RawQuery = p.In.URL.RawQuery // it is the program's to judge
			// The program sees the name that its client used: what it says about
			// itself, and what it checks origins against, has to be that.
			p.Out.Host = p.In.Host
			p.SetXForwarded()
			p.Out.Header.Del(InstanceHeader)
			p.Out.Header.Del(PortHeader)
		},
	}
}

// address is what the transports know a target by.
func (t Target) address() string { return net.JoinHostPort(t.Instance, strconv.Itoa(t.Port)) }

// dial is what the transports dial with.
func (f *Front) dial(ctx context.Context, _, address string) (net.Conn, error) {
	instance, text, err := net.SplitHostPort(address)
	if err != nil {
		return nil, api.Errorf(api.Internal, "a target %q: %w", address, err)
	}
	port, err := parsePort(text)
	if err != nil {
		return nil, err
	}
	c, err := f.instances.Connect(ctx, Target{instance, port})
	if err != nil {
		return nil, unreached{err}
	}
	return c, nil
}

// unreached is why no connection was made, unlike what became of one.
type unreached struct{ error }

func (u unreached) Unwrap() error { return u.error }

func (u unreached) Error() string { return fmt.Sprint(u.error) }
