package bench

import (
	"encoding/json"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/guest/proto/forward"
	"github.com/xfeldman/aegisvm/tests/testbed"
	"github.com/xfeldman/aegisvm/vmm/dialer"
	"github.com/xfeldman/aegisvm/vmm/worker"
)

// answering is a server that answers one byte, or 64 MiB to a "d".
const answering = `
import asyncio
async def serve(r, w):
    if await r.read(1) == b'd':
        for _ in range(64):
            w.write(bytes(1 << 20))
            await w.drain()
    else:
        w.write(b'x')
    await w.drain()
    w.close()
async def main():
    s = await asyncio.start_server(serve, '127.0.0.1', 7000, backlog=4096)
    await s.serve_forever()
asyncio.run(main())
`

const (
	exposedBytes  = 64 << 20
	exposedRounds = 200
)

// ways are the two ways to the server: through its exposed port, and by a
// stream of the guest that nobody else carries.
func ways(b *testing.B) (exposed, bare func() (net.Conn, error)) {
	b.Helper()
	h := up(b)
	command(b, h, "instance", "start", "--name", "web", "--expose", "7000/tcp", "--", "python3", "-c", answering)
	var in api.Instance
	if err := json.Unmarshal([]byte(command(b, h, "instance", "info", "web", "-o", "json")), &in); err != nil {
		b.Fatal(err)
	}
	address := net.TCPAddr{IP: net.ParseIP(in.Endpoints[0].Bind), Port: in.Endpoints[0].PublicPort}
	exposed = func() (net.Conn, error) { return net.Dial("tcp", address.String()) }
	return exposed, bareStreams(b, h, in.Machine)
}

func bareStreams(b *testing.B, h *testbed.Host, machine string) func() (net.Conn, error) {
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
func ask(b *testing.B, dial func() (net.Conn, error), word string, want int64) time.Duration {
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

// BenchmarkExposed compares an exposed port with the guest's own streams: a
// connection that asks for one byte, and one that reads 64 MiB.
func BenchmarkExposed(b *testing.B) {
	exposed, bare := ways(b)
	ask(b, exposed, "x", 1) // the lease is held from here on
	keep, err := exposed()
	if err != nil {
		b.Fatal(err)
	}
	defer keep.Close()
	for b.Loop() {
		var through, plain []time.Duration
		for range exposedRounds {
			plain = append(plain, ask(b, bare, "x", 1))
			through = append(through, ask(b, exposed, "x", 1))
		}
		b.ReportMetric(ms(median(through)), "exposed-ms")
		b.ReportMetric(ms(median(plain)), "bare-ms")
		b.ReportMetric(1000*(ms(median(through))-ms(median(plain))), "added-µs")
		through, plain = nil, nil
		for range throughputRounds {
			plain = append(plain, ask(b, bare, "d", exposedBytes))
			through = append(through, ask(b, exposed, "d", exposedBytes))
		}
		b.ReportMetric(float64(median(plain))/float64(median(through)), "exposed/bare-throughput")
		b.ReportMetric(exposedBytes/(1<<20)/median(through).Seconds(), "exposed-MiB/s")
		b.ReportMetric(0, "ns/op")
	}
}
