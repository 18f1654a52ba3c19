package tests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/api/restapi"
	"github.com/xfeldman/aegisvm/tests/testbed"
)

// shouter is a server that answers in capitals when its client has said all.
const shouter = `
import asyncio
async def serve(r, w):
    w.write((await r.read()).upper())
    await w.drain()
    w.close()
async def main():
    s = await asyncio.start_server(serve, '127.0.0.1', 7000, backlog=4096)
    print('up', flush=True)
    await s.serve_forever()
asyncio.run(main())
`

// shouting starts the server in an instance and tells where it is offered.
func shouting(t *testing.T, h *testbed.Host) api.Endpoint {
	t.Helper()
	got := aegis(t, h, nil, "instance", "start", "--name", "web", "--restart", "on-demand", "--expose", "7000/tcp", "--", "python3", "-c", shouter)
	if got.code != 0 {
		t.Fatalf("%+v", got)
	}
	in := info(t, h)
	if len(in.Endpoints) != 1 {
		t.Fatalf("%+v", in)
	}
	return in.Endpoints[0]
}

func info(t *testing.T, h *testbed.Host) (in api.Instance) {
	t.Helper()
	got := aegis(t, h, nil, "instance", "info", "web", "-o", "json")
	if err := json.Unmarshal([]byte(got.stdout), &in); err != nil {
		t.Fatalf("%+v: %v", got, err)
	}
	return in
}

// dial connects to an endpoint on its host.
func dial(h *testbed.Host, e api.Endpoint) (c *net.TCPConn, err error) {
	err = h.InNetwork(func() error {
		conn, err := net.Dial("tcp", net.JoinHostPort(e.Bind, strconv.Itoa(e.PublicPort)))
		if err == nil {
			c = conn.(*net.TCPConn)
		}
		return err
	})
	return c, err
}

// say says a word, ends, and reads the answer.
func say(c *net.TCPConn, word string) (string, error) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(limit))
	if _, err := io.WriteString(c, word); err != nil {
		return "", err
	}
	if err := c.CloseWrite(); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	return string(b), err
}

func wantShout(t *testing.T, h *testbed.Host, e api.Endpoint, when string) {
	t.Helper()
	c, err := dial(h, e)
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	if got, err := say(c, "hello"); err != nil || got != "HELLO" {
		t.Errorf("%s: %q (%v)", when, got, err)
	}
}

func TestExposedPortsWakeTheirInstance(t *testing.T) {
	onEveryHost(t, func(t *testing.T, h *testbed.Host) {
		before := inventory(t, h)
		e := shouting(t, h)
		wantShout(t, h, e, "at first")
		must(t, h, "", "instance", "pause", "web")
		wantShout(t, h, e, "paused")
		woken := wakes(t, h, func() { thousand(t, h, e) })
		if woken != 1 {
			t.Errorf("%d wakes for a thousand connections", woken)
		}
		must(t, h, "", "instance", "stop", "web")
		wantShout(t, h, e, "stopped")
		if in := info(t, h); in.Starts != 2 {
			t.Errorf("started %d times", in.Starts)
		}
		must(t, h, "", "instance", "disable", "web")
		if c, err := dial(h, e); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("disabled: %v (%v)", c, err)
		}
		must(t, h, "", "instance", "start", "web")
		awaitOpen(t, h, e)
		wantShout(t, h, e, "started again")
		must(t, h, "", "instance", "delete", "web")
		if c, err := dial(h, e); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("deleted: %v (%v)", c, err)
		}
		settle(t, h)
		if after := inventory(t, h); after != before {
			t.Errorf("left behind:\n%s\nbefore:\n%s", after, before)
		}
	})
}

// tardy listens two seconds late and then tells how often somebody was refused
// by its kernel until then.
const tardy = `
import socket, time
time.sleep(2)
rows = [line.split() for line in open('/proc/net/snmp') if line.startswith('Tcp:')]
failed = dict(zip(*rows))['AttemptFails']
s = socket.create_server(('127.0.0.1', 7000))
while True:
    c, _ = s.accept()
    c.recv(100)
    c.sendall(failed.encode())
    c.close()
`

// A program that does not listen yet is awaited by an event of its kernel: there
// are few attempts to connect and not one each five milliseconds.
func TestAProgramThatComesLateIsAwaited(t *testing.T) {
	onEveryHost(t, func(t *testing.T, h *testbed.Host) {
		must(t, h, "", "instance", "start", "--name", "web", "--expose", "7000/tcp", "--", "python3", "-c", tardy)
		c, err := dial(h, info(t, h).Endpoints[0])
		if err != nil {
			t.Fatal(err)
		}
		got, err := say(c, "x")
		if n, bad := strconv.Atoi(got); bad != nil || n == 0 || n > 20 || err != nil {
			t.Errorf("%q attempts failed (%v)", got, err)
		}
	})
}

// awaitOpen tries a port until it is open: nothing tells that.
func awaitOpen(t *testing.T, h *testbed.Host, e api.Endpoint) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for {
		c, err := dial(h, e)
		if err == nil {
			c.Close()
			return
		}
		if !errors.Is(err, syscall.ECONNREFUSED) || ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

// wakes pauses the instance, has something done, and counts how often it was
// resumed meanwhile.
func wakes(t *testing.T, h *testbed.Host, do func()) (n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	client := restapi.NewClient(h.Socket)
	defer client.Close()
	events, err := client.Events(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for pauses := 0; pauses < 2; {
		must(t, h, "", "instance", "pause", "web")
		for e := range events {
			if e.Type == api.EventPhase && e.Phase == api.PhaseRunning && pauses == 1 {
				n++
			}
			if e.Type == api.EventPhase && e.Phase == api.PhasePaused {
				pauses++
				break
			}
		}
		if ctx.Err() != nil {
			t.Fatal("the pause is not told")
		}
		if pauses == 1 {
			do()
		}
	}
	return n
}

// thousand connects a thousand times at once; all are to be served.
func thousand(t *testing.T, h *testbed.Host, e api.Endpoint) {
	t.Helper()
	conns := make([]*net.TCPConn, 1000)
	err := h.InNetwork(func() error {
		for i := range conns {
			c, err := net.Dial("tcp", net.JoinHostPort(e.Bind, strconv.Itoa(e.PublicPort)))
			if err != nil {
				return fmt.Errorf("connection %d: %w", i, err)
			}
			conns[i] = c.(*net.TCPConn)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i, c := range conns {
		all.Go(func() {
			if got, err := say(c, fmt.Sprint("a", i)); err != nil || got != fmt.Sprint("A", i) {
				t.Errorf("connection %d: %q (%v)", i, got, err)
			}
		})
	}
	all.Wait()
}

// The sockets are systemd's to keep: whenever the router is killed, no
// connection is refused. One that it had accepted is lost with it.
func TestARouterThatIsKilledRefusesNobody(t *testing.T) {
	if testing.Short() {
		t.Skip("boots real machines")
	}
	h := testbed.System(t)
	must(t, h, "", "up")
	e := shouting(t, h)
	wantShout(t, h, e, "at first")
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
			c, err := dial(h, e)
			if err != nil {
				t.Errorf("refused: %v", err)
				return
			}
			if got, err := say(c, "hello"); err == nil && got == "HELLO" {
				served++
			} else {
				lost++
			}
		}
	}()
	const kills = 6
	for range kills {
		killDaemon(t, h, "aegis-routerd")
		wantAnswer(t, h, e)
	}
	close(stop)
	<-over
	t.Logf("%d served, %d lost with a router, 0 refused over %d kills", served, lost, kills)
	if served == 0 || lost > kills {
		t.Errorf("%d served, %d lost over %d kills", served, lost, kills)
	}
	killDaemon(t, h, "aegisd")
	wantShout(t, h, e, "with another aegisd")
}

// wantAnswer is served at last: a connection may be lost with the router that
// is being killed.
func wantAnswer(t *testing.T, h *testbed.Host, e api.Endpoint) {
	t.Helper()
	for range 2 {
		c, err := dial(h, e)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := say(c, "hello"); err == nil && got == "HELLO" {
			return
		}
	}
	t.Fatal("nobody answers")
}

// rebooted is a host under systemd that will bring everything back by itself.
func rebooted(t *testing.T) *testbed.Host {
	t.Helper()
	if testing.Short() {
		t.Skip("boots real machines")
	}
	h := testbed.System(t)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if got := finish(ctx, t, h.Command(ctx, "systemctl", "enable", "aegisd.socket"), nil); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	must(t, h, "", "up")
	return h
}

// After a reboot one connection brings everything back.
func TestAnExposedPortSurvivesAReboot(t *testing.T) {
	h := rebooted(t)
	e := shouting(t, h)
	wantShout(t, h, e, "at first")
	h.PowerCut(t)
	awaitOpen(t, h, e) // while the host still comes up
	// The front is there, and knows names from routerd's own table.
	front := clientOf(t, func() (c net.Conn, err error) {
		err = h.InNetwork(func() error {
			c, err = net.Dial("tcp", "127.0.0.1:8099")
			return err
		})
		return c, err
	}, false)
	if status, body, err := visit(front, "http://web.localhost/"); status != 404 || !strings.Contains(body, "instance web exposes no port for http") || err != nil {
		t.Errorf("the front after a power cut: %d %q (%v)", status, body, err)
	}
	wantShout(t, h, e, "after a power cut")
	if in := info(t, h); in.Starts != 2 || len(in.Endpoints) != 1 || in.Endpoints[0] != e {
		t.Errorf("%+v", in)
	}
}
