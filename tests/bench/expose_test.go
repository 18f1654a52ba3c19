package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/api/restapi"
	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/guest/proto/forward"
	"github.com/xfeldman/aegisvm/tests/testbed"
	"github.com/xfeldman/aegisvm/vmm/dialer"
	"github.com/xfeldman/aegisvm/vmm/worker"
)

// answering is a server that answers one byte; each of many to a "p", and 64
// MiB to a "d".
const answering = `
import asyncio
async def serve(r, w):
    first = await r.read(1)
    if first == b'd':
        for _ in range(64):
            w.write(bytes(1 << 20))
            await w.drain()
    elif first == b'p':
        while await r.read(1):
            w.write(b'x')
    else:
        w.write(b'x')
    await w.drain()
    w.close()
async def main():
    s = await asyncio.start_server(serve, '0.0.0.0', 7000, backlog=4096)
    await s.serve_forever()
asyncio.run(main())
`

const (
	exposedBytes  = 64 << 20
	exposedRounds = 400
)

// web starts the server and tells what it is.
func web(b *testing.B, h *testbed.Host) (in api.Instance) {
	b.Helper()
	command(b, h, "instance", "start", "--name", "web", "--expose", "7000/tcp", "--", "python3", "-c", answering)
	if err := json.Unmarshal([]byte(command(b, h, "instance", "info", "web", "-o", "json")), &in); err != nil {
		b.Fatal(err)
	}
	return in
}

type way func() (net.Conn, error)

// through is the way through the exposed port.
func through(in api.Instance) way {
	address := net.TCPAddr{IP: net.ParseIP(in.Endpoints[0].Bind), Port: in.Endpoints[0].PublicPort}
	return func() (net.Conn, error) { return net.Dial("tcp", address.String()) }
}

// direct is the way to the guest's own address; nil where it has none.
func direct(b *testing.B, h *testbed.Host) way {
	b.Helper()
	var state api.NetworkState
	if err := json.Unmarshal([]byte(command(b, h, "network", "show", "web", "-o", "json")), &state); err != nil {
		b.Fatal(err)
	}
	if state.Address == "" {
		return nil
	}
	return func() (net.Conn, error) { return net.Dial("tcp", net.JoinHostPort(state.Address, "7000")) }
}

// stream is the way over a stream of the guest, which nobody else carries.
func stream(b *testing.B, h *testbed.Host, machine string) way {
	b.Helper()
	f, err := worker.Client{Dir: filepath.Join(h.Home, "data/machines", machine)}.Dialer(b.Context(), proto.PortForward)
	if err != nil {
		b.Fatal(err)
	}
	d, err := dialer.New(f)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(d.Close)
	return func() (net.Conn, error) {
		c, err := d.Dial(b.Context())
		if err == nil {
			err = forward.WriteTarget(c, forward.Target{Port: 7000, Wait: time.Minute})
		}
		if err == nil {
			err = forward.ReadAnswer(c)
		}
		return c, err
	}
}

// ask connects, says a word and measures until want bytes have come.
func ask(b *testing.B, dial way, word string, want int64) time.Duration {
	b.Helper()
	begin := time.Now()
	c, err := dial()
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, word); err != nil {
		b.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, c); err != nil || n != want {
		b.Fatalf("%d bytes (%v), %d expected", n, err, want)
	}
	return time.Since(begin)
}

// open opens a connection to say many words on.
func open(b *testing.B, dial way) net.Conn {
	b.Helper()
	c, err := dial()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, "p"); err != nil {
		b.Fatal(err)
	}
	word(b, c)
	return c
}

// word measures one question and its answer.
func word(b *testing.B, c net.Conn) time.Duration {
	b.Helper()
	begin := time.Now()
	if _, err := c.Write([]byte("q")); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		b.Fatal(err)
	}
	return time.Since(begin)
}

// turns measures two ways in turns, each first as often as the other.
func turns(rounds int, one, other func() time.Duration) (a, b []time.Duration) {
	for i := range rounds {
		if i%2 == 0 {
			a = append(a, one())
			b = append(b, other())
		} else {
			b = append(b, other())
			a = append(a, one())
		}
	}
	return a, b
}

// compare reports an exposed port against another way to the program.
func compare(b *testing.B, name string, exposed, other way) {
	b.Helper()
	added := func(what string, plain, carried []time.Duration) {
		b.ReportMetric(1000*ms(median(plain)), name+"-"+what+"-µs")
		b.ReportMetric(1000*(ms(median(carried))-ms(median(plain))), name+"-"+what+"-added-µs")
	}
	one, two := open(b, other), open(b, exposed)
	plain, carried := turns(exposedRounds, func() time.Duration { return word(b, one) }, func() time.Duration { return word(b, two) })
	added("request", plain, carried)
	plain, carried = turns(exposedRounds, func() time.Duration { return ask(b, other, "x", 1) }, func() time.Duration { return ask(b, exposed, "x", 1) })
	added("connection", plain, carried)
	load := func(dial way) func() time.Duration {
		return func() time.Duration { return ask(b, dial, "d", exposedBytes) }
	}
	plain, carried = turns(4*throughputRounds, load(other), load(exposed))
	b.ReportMetric(float64(median(plain))/float64(median(carried)), name+"-throughput-ratio")
	b.ReportMetric(exposedBytes/(1<<20)/median(carried).Seconds(), name+"-exposed-MiB/s")
}

// BenchmarkExposed compares an exposed port with dialling the guest's own
// address, and where it has none with a stream of the guest: a request on a
// connection that is there, one with a connection of its own, and one for 64
// MiB.
func BenchmarkExposed(b *testing.B) {
	h := up(b)
	in := web(b, h)
	exposed := through(in)
	ask(b, exposed, "x", 1)  // it listens
	keep := open(b, exposed) // the lease is held from here on
	name, other := "direct", direct(b, h)
	if other == nil {
		name, other = "stream", stream(b, h, in.Machine)
	}
	for b.Loop() {
		compare(b, name, exposed, other)
		b.ReportMetric(0, "ns/op")
	}
	word(b, keep)
}

const crowd = 1000

// BenchmarkCrowd has a thousand connections come to a paused instance at once.
func BenchmarkCrowd(b *testing.B) {
	h := up(b)
	in := web(b, h)
	exposed := through(in)
	ask(b, exposed, "x", 1)
	client := restapi.NewClient(h.Socket)
	b.Cleanup(func() { client.Close() })
	events, err := client.Events(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		command(b, h, "instance", "pause", "web")
		phases(events, api.PhasePaused)
		begin := time.Now()
		answered, refused := everybody(exposed)
		b.ReportMetric(time.Since(begin).Seconds(), "seconds")
		command(b, h, "instance", "pause", "web")
		woken := 0
		for _, p := range phases(events, api.PhasePaused) {
			if p == api.PhaseRunning {
				woken++
			}
		}
		b.ReportMetric(float64(answered), "answers")
		b.ReportMetric(float64(refused), "refused")
		b.ReportMetric(float64(woken), "wakes")
		b.ReportMetric(0, "ns/op")
		if answered != crowd || refused != 0 || woken != 1 {
			b.Errorf("%d answers, %d refused, %d wakes", answered, refused, woken)
		}
	}
}

// phases are those that are told of up to one, with it.
func phases(events <-chan api.Event, last api.Phase) (all []api.Phase) {
	for e := range events {
		if e.Type != api.EventPhase {
			continue
		}
		if all = append(all, e.Phase); e.Phase == last {
			return all
		}
	}
	return all
}

// everybody asks at once.
func everybody(dial way) (answered, refused int) {
	answers := make(chan error, crowd)
	var all sync.WaitGroup
	for range crowd {
		all.Go(func() {
			c, err := dial()
			if err != nil {
				answers <- err
				return
			}
			defer c.Close()
			io.WriteString(c, "x")
			got, err := io.ReadAll(c)
			if err == nil && string(got) != "x" {
				err = fmt.Errorf("answer %s", strconv.Quote(string(got)))
			}
			answers <- err
		})
	}
	all.Wait()
	close(answers)
	for err := range answers {
		if err == nil {
			answered++
		} else {
			refused++
		}
	}
	return answered, refused
}
