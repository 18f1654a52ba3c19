package tests

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/net/websocket"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/tests/testbed"
)

// frontOf tells where a host's front is, and connects to it.
func frontOf(t *testing.T, h *testbed.Host) (address string, dial func() (net.Conn, error)) {
	t.Helper()
	var st api.Status
	if err := json.Unmarshal([]byte(must(t, h, "", "status", "-o", "json")), &st); err != nil || st.Front == "" {
		t.Fatalf("front %q: %s (%v)", st.Front, st.FrontNote, err)
	}
	return st.Front, func() (c net.Conn, err error) {
		err = h.InNetwork(func() error {
			c, err = net.Dial("tcp", st.Front)
			return err
		})
		return c, err
	}
}

// clientOf makes a transport to a host's front, for HTTP/2 without TLS or
// HTTP/1.
func clientOf(t *testing.T, dial func() (net.Conn, error), two bool) *http.Transport {
	tr := &http.Transport{
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return dial() },
		DisableKeepAlives: !two, Protocols: new(http.Protocols),
	}
	tr.Protocols.SetHTTP1(!two)
	tr.Protocols.SetUnencryptedHTTP2(two)
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// visit gets a page and tells what it says.
func visit(tr http.RoundTripper, url string, headers ...string) (status int, body string, err error) {
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := tr.RoundTrip(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func wantPage(t *testing.T, tr http.RoundTripper, says, url string, headers ...string) {
	t.Helper()
	if status, body, err := visit(tr, url, headers...); status != 200 || !strings.HasPrefix(body, says) || err != nil {
		t.Errorf("%s %v: %d %q (%v), want %q", url, headers, status, body, err, says)
	}
}

// serving starts webtest in an instance, on all addresses of its guest and on
// the loopback alone.
func serving(t *testing.T, h *testbed.Host) {
	t.Helper()
	folder := h.Folder(t)
	build(t, "webtest", folder.Here)
	must(t, h, "", "instance", "start", "--name", "web", "--restart", "on-demand", "--workspace", folder.There,
		"--expose", "80/http", "--expose", "81/http", "--expose", "82/tcp", "--", "/workspace/webtest", ":80", "127.0.0.1:81")
}

func TestTheFrontLeadsToInstancesAndWakesThem(t *testing.T) {
	onEveryHost(t, func(t *testing.T, h *testbed.Host) {
		before := inventory(t, h)
		address, dial := frontOf(t, h)
		tr := clientOf(t, dial, false)
		if status, body, err := visit(tr, "http://"+address); status != 503 || !strings.Contains(body, "no active instance") || err != nil {
			t.Errorf("nobody there: %d %q (%v)", status, body, err)
		}
		serving(t, h)
		everywhere := "hello from :80 as "
		wantPage(t, tr, everywhere+"web.localhost:8099\n", "http://web.localhost:8099/")
		wantPage(t, tr, everywhere, "http://localhost/", "X-Aegis-Instance", "web")
		wantPage(t, tr, everywhere, "http://localhost/", "X-Aegis-Instance", info(t, h).ID)
		wantPage(t, tr, everywhere, "http://"+address+"/")
		wantPage(t, tr, "hello from 127.0.0.1:81 as ", "http://81.web.localhost/")
		wantPage(t, tr, "hello from 127.0.0.1:81 as ", "http://web.localhost/", "X-Aegis-Port", "81")
		must(t, h, "", "instance", "pause", "web")
		wantPage(t, tr, everywhere, "http://web.localhost/")
		must(t, h, "", "instance", "pause", "web")
		crowd(t, tr, everywhere)
		must(t, h, "", "instance", "stop", "web")
		wantPage(t, tr, everywhere, "http://web.localhost/")
		if in := info(t, h); in.Starts != 2 {
			t.Errorf("started %d times", in.Starts)
		}
		protocols(t, tr, dial, clientOf(t, dial, true))
		refusedPages(t, h, tr)
		if h.Name == "standalone" {
			curl(t, address, everywhere)
		}
		must(t, h, "", "instance", "delete", "web")
		settle(t, h)
		if after := inventory(t, h); after != before {
			t.Errorf("left behind:\n%s\nbefore:\n%s", after, before)
		}
	})
}

// crowd asks a hundred times at once; all are to be served.
func crowd(t *testing.T, tr http.RoundTripper, says string) {
	t.Helper()
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() { wantPage(t, tr, says, "http://web.localhost/") })
	}
	all.Wait()
}

func protocols(t *testing.T, tr http.RoundTripper, dial func() (net.Conn, error), two http.RoundTripper) {
	t.Helper()
	for _, host := range []string{"web.localhost", "81.web.localhost"} {
		events(t, tr, host)
		socket(t, dial, host)
		both(t, two, host)
	}
}

// events reads each event before the next is sent.
func events(t *testing.T, tr http.RoundTripper, host string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+host+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	for i := range 3 {
		line, err := lines.ReadString('\n')
		if _, e := lines.ReadString('\n'); line != fmt.Sprintf("data: %d\n", i) || errors.Join(err, e) != nil {
			t.Errorf("%s: event %q (%v)", host, line, err)
		}
		next, err := http.NewRequest(http.MethodPost, "http://"+host+"/next", nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := tr.RoundTrip(next); err != nil {
			t.Error(err)
		} else {
			resp.Body.Close()
		}
	}
}

// socket speaks WebSocket.
func socket(t *testing.T, dial func() (net.Conn, error), host string) {
	t.Helper()
	c, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	config, err := websocket.NewConfig("ws://"+host+"/socket", "http://"+host)
	if err != nil {
		t.Fatal(err)
	}
	ws, err := websocket.NewClient(config, c)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	for _, word := range []string{"hello", strings.Repeat("long", 10_000)} {
		if err := websocket.Message.Send(ws, word); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(word))
		if _, err := io.ReadFull(ws, got); err != nil || string(got) != word {
			t.Errorf("%s: %d bytes came back as others (%v)", host, len(word), err)
		}
	}
}

// both speaks as gRPC does.
func both(t *testing.T, tr http.RoundTripper, host string) {
	t.Helper()
	body, say := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+host+"/echo.Echo/Both", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Te", "trailers")
	r.Header.Set("Content-Type", "application/grpc")
	resp, err := tr.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for _, word := range []string{"one", "two"} {
		io.WriteString(say, word)
		got := make([]byte, len(word))
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != word {
			t.Errorf("%s: %q came back as %q (%v)", host, word, got, err)
		}
	}
	say.Close()
	if _, err := io.ReadAll(resp.Body); err != nil || resp.Trailer.Get("Grpc-Status") != "0" || resp.ProtoMajor != 2 {
		t.Errorf("%s: trailers %v over %s (%v)", host, resp.Trailer, resp.Proto, err)
	}
}

func refusedPages(t *testing.T, h *testbed.Host, tr http.RoundTripper) {
	t.Helper()
	for _, c := range []struct {
		url    string
		status int
		says   string
	}{
		{"http://evil.example/", 421, "not served here"},
		{"http://other.localhost/", 404, "no instance"},
		{"http://82.web.localhost/", 404, "exposes no port 82 for http"}, // it is not for HTTP
	} {
		if status, body, err := visit(tr, c.url); status != c.status || !strings.Contains(body, c.says) || err != nil {
			t.Errorf("%s: %d %q (%v), want %d %q", c.url, status, body, err, c.status, c.says)
		}
	}
	must(t, h, "", "instance", "disable", "web")
	if status, body, err := visit(tr, "http://web.localhost/"); status != 503 || !strings.Contains(body, "is disabled") || err != nil {
		t.Errorf("disabled: %d %q (%v)", status, body, err)
	}
	must(t, h, "", "instance", "enable", "web")
	wantPage(t, tr, "hello", "http://web.localhost/")
}

// curl knows the names below localhost by itself.
func curl(t *testing.T, address, says string) {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "curl", "-sS", "--fail", "--noproxy", "*", "http://web.localhost:"+port+"/").CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		t.Log("there is no curl here")
		return
	}
	if err != nil || !strings.HasPrefix(string(out), says) {
		t.Errorf("curl: %q (%v)", out, err)
	}
}

// The socket of the front is systemd's: whenever the router is killed, nobody
// is refused. A request that it had taken is lost with it.
func TestAFrontWhoseRouterIsKilledRefusesNobody(t *testing.T) {
	if testing.Short() {
		t.Skip("boots real machines")
	}
	h := testbed.System(t)
	must(t, h, "", "up")
	serving(t, h)
	_, dial := frontOf(t, h)
	tr := clientOf(t, dial, false)
	const page, kills = "http://web.localhost/", 6
	wantPage(t, tr, "hello", page)
	stop, over := make(chan struct{}), make(chan struct{})
	served, lost := 0, 0
	go func() {
		defer close(over)
		for {
			select {
			case <-stop:
				return
			default:
			}
			status, _, err := visit(tr, page)
			switch {
			case errors.Is(err, syscall.ECONNREFUSED):
				t.Errorf("refused: %v", err)
				return
			case status == 200 && err == nil:
				served++
			default:
				lost++
			}
		}
	}()
	for range kills {
		killDaemon(t, h, "aegis-routerd")
		if status, _, err := visit(tr, page); status != 200 || err != nil {
			wantPage(t, tr, "hello", page) // it may be lost with the router that is being killed
		}
	}
	close(stop)
	<-over
	t.Logf("%d served, %d lost with a router, 0 refused over %d kills", served, lost, kills)
	if served == 0 || lost > kills {
		t.Errorf("%d served, %d lost over %d kills", served, lost, kills)
	}
}

// A port that somebody else has costs the front and nothing else.
func TestATakenFrontIsToldByStatus(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a host")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	h := testbed.Standalone(t)
	w := without{h, "aegis", []string{"AEGIS_FRONT=" + l.Addr().String()}}
	if up := w.run(t, "up"); up.code != 0 {
		t.Fatalf("aegis up: %+v", up)
	}
	if got := must(t, h, "", "status"); !strings.Contains(got, "front     none: port "+l.Addr().String()+" of this host is taken") {
		t.Errorf("status says\n%s", got)
	}
}
