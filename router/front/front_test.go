package front

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/guest/proto/forward"
)

// one are instances of which there is one, called web, with a program at
// address on port 80.
type one struct {
	address string
	refuse  error
}

func (o one) Find(name string, port int) (Target, error) {
	switch {
	case name != "" && name != "web" && name != "web.app":
		return Target{}, api.Errorf(api.NotFound, "no instance %q", name)
	case port != 0 && port != 80:
		return Target{}, api.Errorf(api.NotFound, "no port %d", port)
	}
	return Target{"inst-" + name, 80}, nil
}

func (o one) Connect(ctx context.Context, _ Target) (net.Conn, error) {
	if o.refuse != nil {
		return nil, o.refuse
	}
	return new(net.Dialer).DialContext(ctx, "tcp", o.address)
}

// serve opens a front and tells its URL.
func serve(t *testing.T, i Instances) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, i, l)
}

func serveOn(t *testing.T, i Instances, l net.Listener) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- New(i, slog.New(slog.DiscardHandler)).Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-over; err != nil {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String()
}

// program is a server of a guest.
func program(t *testing.T, h http.HandlerFunc) one {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return one{address: s.Listener.Addr().String()}
}

func request(t *testing.T, url, host string, headers ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

func TestWhatARequestIsForAndWhatItIsTold(t *testing.T) {
	web := program(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	url := serve(t, web)
	for _, c := range []struct {
		host    string
		headers []string
		status  int
		says    string
	}{
		{"localhost", nil, 200, "hello"},
		{"127.0.0.1:8099", nil, 200, "hello"},
		{"[::1]:8099", nil, 200, "hello"},
		{"web.localhost:8099", nil, 200, "hello"},
		{"WEB.LocalHost.", nil, 200, "hello"},
		{"web.app.localhost", nil, 200, "hello"},
		{"80.web.localhost", nil, 200, "hello"},
		{"80.web.app.localhost", nil, 200, "hello"},
		{"localhost", []string{InstanceHeader, "web", PortHeader, "80"}, 200, "hello"},
		{"other.localhost", []string{InstanceHeader, "web"}, 200, "hello"},
		{"other.localhost", nil, 404, `no instance \"other\"`},
		{"web.localhost", []string{InstanceHeader, "other"}, 404, `no instance \"other\"`},
		{"81.web.localhost", nil, 404, "no port 81"},
		{"81.web.localhost", []string{PortHeader, "80"}, 404, `no instance \"81.web\"`},
		{"web.localhost", []string{PortHeader, "x"}, 400, `X-Aegis-Port \"x\": expected`},
		{"web.localhost", []string{PortHeader, "65536"}, 400, "X-Aegis-Port"},
		{"evil.example", nil, 421, `host \"evil.example\" is not served here: use localhost`},
		{"evil.example:8099", []string{InstanceHeader, "web"}, 421, "not served here"},
		{"web.localhost.evil.example", nil, 421, "not served here"},
		{"weblocalhost", nil, 421, "not served here"},
		{"192.0.2.1", nil, 421, "not served here"},
		{"0.0.0.0:8099", nil, 421, "not served here"},
		{"[::]", nil, 421, "not served here"},
	} {
		resp, err := http.DefaultTransport.RoundTrip(request(t, url, c.host, c.headers...))
		if err != nil {
			t.Errorf("%s %v: %v", c.host, c.headers, err)
			continue
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.status || !strings.Contains(string(body), c.says) || err != nil {
			t.Errorf("%s %v: %s %s (%v), want %d %s", c.host, c.headers, resp.Status, body, err, c.status, c.says)
		}
	}
}

func TestARefusalSaysWhyAndWhenToComeAgain(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		status int
		code   api.Code
		says   string
		retry  bool
	}{
		"a wake that fails": {api.Errorf(api.Unavailable, "the disk is full"), 503, api.Unavailable, "the disk is full", true},
		"not to be woken":   {api.Errorf(api.BadState, "no connection starts it"), 503, api.BadState, "no connection starts it", true},
		"nobody listens":    {fmt.Errorf("port 80: %w", forward.ErrRefused), 502, api.Unavailable, "nobody listens", true},
		"something else":    {io.ErrUnexpectedEOF, 503, api.Unavailable, "unexpected EOF", true},
		"deleted meanwhile": {api.Errorf(api.NotFound, "no instance"), 404, api.NotFound, "no instance", false},
	} {
		resp, err := http.DefaultTransport.RoundTrip(request(t, serve(t, one{refuse: c.err}), "web.localhost"))
		if err != nil {
			t.Fatal(err)
		}
		var said api.Error
		err = json.NewDecoder(resp.Body).Decode(&said)
		resp.Body.Close()
		if resp.StatusCode != c.status || (resp.Header.Get("Retry-After") != "") != c.retry || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %s %v", name, resp.Status, resp.Header)
		}
		if said.Code != c.code || !strings.Contains(said.Message, c.says) || err != nil {
			t.Errorf("%s: %+v (%v)", name, said, err)
		}
	}
}

func TestAProgramThatHangsUpIsABadGateway(t *testing.T) {
	web := program(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	resp, err := http.DefaultTransport.RoundTrip(request(t, serve(t, web), "web.localhost"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode != 502 || !strings.Contains(string(body), "gave no answer") || err != nil {
		t.Errorf("%s %s (%v)", resp.Status, body, err)
	}
}

func TestWhatAProgramSeesOfARequest(t *testing.T) {
	seen := make(chan *http.Request, 1)
	web := program(t, func(_ http.ResponseWriter, r *http.Request) { seen <- r })
	r := request(t, serve(t, web)+"/a%2Fb?x=1;y", "web.localhost:8099", InstanceHeader, "web", PortHeader, "80",
		"X-Forwarded-For", "192.0.2.1", "Forwarded", "for=192.0.2.1", "Connection", "X-Hop", "X-Hop", "gone",
		"Proxy-Authorization", "gone", "X-Kept", "kept")
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	got := <-seen
	want := http.Header{
		"X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Host": {"web.localhost:8099"}, "X-Forwarded-Proto": {"http"},
		"X-Kept": {"kept"}, "Accept-Encoding": {"gzip"}, "Connection": {"close"}, "User-Agent": {"Go-http-client/1.1"},
	}
	if diff := cmp.Diff(want, got.Header); diff != "" || got.Host != "web.localhost:8099" || got.RequestURI != "/a%2Fb?x=1;y" {
		t.Errorf("host %s, %s %s", got.Host, got.RequestURI, diff)
	}
}

func TestAnUpgradedConnectionIsItsEndsOwn(t *testing.T) {
	web := program(t, func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		io.Copy(c, rw)
	})
	c, err := net.Dial("tcp", strings.TrimPrefix(serve(t, web), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: web.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%+v (%v)", resp, err)
	}
	for _, word := range []string{"one", "\x00two"} {
		io.WriteString(c, word)
		got := make([]byte, len(word))
		if _, err := io.ReadFull(r, got); err != nil || string(got) != word {
			t.Errorf("%q came back as %q (%v)", word, got, err)
		}
	}
}

func TestEventsComeWhenTheyAreSent(t *testing.T) {
	heard := make(chan bool)
	web := program(t, func(w http.ResponseWriter, _ *http.Request) {
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			http.NewResponseController(w).Flush()
			<-heard
		}
	})
	resp, err := http.DefaultTransport.RoundTrip(request(t, serve(t, web), "web.localhost"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for i := range 3 {
		want := fmt.Sprintf("data: %d\n\n", i)
		got := make([]byte, len(want))
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != want {
			t.Errorf("%q (%v)", got, err)
		}
		heard <- true
	}
}

// What gRPC needs: HTTP/2 without TLS, both directions at once, and trailers.
func TestStreamsOfHTTP2PassBothWaysWithTrailers(t *testing.T) {
	web := program(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Grpc-Status")
		http.NewResponseController(w).Flush()
		io.Copy(flushing{w}, r.Body)
		w.Header().Set("Grpc-Status", fmt.Sprint(r.ProtoMajor, r.Header.Get("Te")))
		w.Header().Set(http.TrailerPrefix+"Grpc-Message", "done")
	})
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	defer tr.CloseIdleConnections()
	url := serve(t, web)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			body, say := io.Pipe()
			r := request(t, url, "web.localhost", "Te", "trailers", "Content-Type", "application/grpc")
			r.Method, r.Body = http.MethodPost, body
			resp, err := tr.RoundTrip(r)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			for _, word := range []string{"one", "two"} {
				io.WriteString(say, word)
				got := make([]byte, len(word))
				if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != word {
					t.Errorf("%q came back as %q (%v)", word, got, err)
				}
			}
			say.Close()
			if _, err := io.ReadAll(resp.Body); err != nil {
				t.Error(err)
			}
			if got := resp.Trailer; got.Get("Grpc-Status") != "2trailers" || got.Get("Grpc-Message") != "done" {
				t.Errorf("trailers %v", got)
			}
		})
	}
	all.Wait()
}

type flushing struct{ http.ResponseWriter }

func (f flushing) Write(b []byte) (int, error) {
	n, err := f.ResponseWriter.Write(b)
	http.NewResponseController(f.ResponseWriter).Flush()
	return n, err
}

// What a client does not read stays with the program, but for the buffers of
// the kernel.
func TestASlowReaderCostsLittle(t *testing.T) {
	const most = 64 << 20
	sent := make(chan int, 1)
	web := program(t, func(w http.ResponseWriter, _ *http.Request) {
		n := 0
		defer func() { sent <- n }()
		for b := make([]byte, 64<<10); n < most; n += len(b) {
			http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Second))
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	})
	resp, err := http.DefaultTransport.RoundTrip(request(t, serve(t, web), "web.localhost"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n := <-sent; n >= most {
		t.Errorf("%d bytes were taken for a client that reads none", n)
	}
}

func TestALargeHeaderIsRefused(t *testing.T) {
	url := serve(t, one{})
	resp, err := http.DefaultTransport.RoundTrip(request(t, url, "web.localhost", "X-Long", strings.Repeat("x", 2*maxHeader)))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Error(resp.Status)
	}
}

// short has no descriptors left for a while.
type short struct {
	net.Listener
	left int
}

func (s *short) Accept() (net.Conn, error) {
	if s.left > 0 {
		s.left--
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return s.Listener.Accept()
}

func TestALackOfDescriptorsPasses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := program(t, func(http.ResponseWriter, *http.Request) {})
	resp, err := http.DefaultTransport.RoundTrip(request(t, serveOn(t, web, &short{l, 3}), "web.localhost"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

// A front that ends does not wait for those who wait for nothing.
func TestTheEndOfAFrontEndsItsConnections(t *testing.T) {
	asked := make(chan bool)
	web := program(t, func(_ http.ResponseWriter, r *http.Request) {
		asked <- true
		<-r.Context().Done()
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- New(web, slog.New(slog.DiscardHandler)).Serve(ctx, l) }()
	answered := make(chan error, 1)
	go func() {
		resp, err := http.DefaultTransport.RoundTrip(request(t, "http://"+l.Addr().String(), "web.localhost"))
		if err == nil {
			resp.Body.Close()
		}
		answered <- err
	}()
	<-asked
	cancel()
	if err := <-over; err != nil {
		t.Error(err)
	}
	<-answered
}

// Whatever a client says its host is, what passes is ours.
func FuzzHost(f *testing.F) {
	for _, s := range []string{"localhost", "web.localhost:80", "[::1]:1", "127.0.0.1", "evil.example", "[", ":", "a:b:c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, host string) {
		if checkHost(&http.Request{Host: host}) != nil {
			return
		}
		h := hostOf(host)
		if a := net.ParseIP(h); h != "localhost" && !strings.HasSuffix(h, ".localhost") && (a == nil || !a.IsLoopback()) {
			t.Errorf("%q passes as %q", host, h)
		}
	})
}
