package bench

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/tests/testbed"
)

// heavy is a server that takes its time to start and has so many MiB of memory
// in use.
const heavy = `
import asyncio, os, sys
memory = bytearray(os.urandom(1 << 20)) * int(sys.argv[1])
async def serve(r, w):
    await r.read(1)
    w.write(b'x')
    await w.drain()
    w.close()
async def main():
    s = await asyncio.start_server(serve, '127.0.0.1', 7000, backlog=4096)
    await s.serve_forever()
asyncio.run(main())
`

// heavyServer starts one in a guest of a size and leads to it.
func heavyServer(b *testing.B, h *testbed.Host, name string, memoryMiB, touchedMiB int) func() (net.Conn, error) {
	b.Helper()
	command(b, h, "instance", "start", "--name", name, "--restart", "on-demand", "--idle", "never", "--memory", strconv.Itoa(memoryMiB),
		"--expose", "7000/tcp", "--", "python3", "-c", heavy, strconv.Itoa(touchedMiB))
	var in api.Instance
	if err := json.Unmarshal([]byte(command(b, h, "instance", "info", name, "-o", "json")), &in); err != nil {
		b.Fatal(err)
	}
	address := net.TCPAddr{IP: net.ParseIP(in.Endpoints[0].Bind), Port: in.Endpoints[0].PublicPort}
	return func() (net.Conn, error) { return net.Dial("tcp", address.String()) }
}

// times is n, or what the environment says.
func times(b *testing.B, env string, n int) int {
	b.Helper()
	text := os.Getenv(env)
	if text == "" {
		return n
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		b.Fatalf("%s=%s: expected a number", env, text)
	}
	return n
}

// BenchmarkWakePaused measures from a connection to its first byte, of an
// instance that is paused and of one that runs.
func BenchmarkWakePaused(b *testing.B) {
	h := up(b)
	dial := heavyServer(b, h, "web", 256, 1)
	ask(b, dial, "x", 1)
	for b.Loop() {
		var paused, running []time.Duration
		for range times(b, "AEGIS_BENCH_ROUNDS", 50) {
			running = append(running, ask(b, dial, "x", 1))
			command(b, h, "instance", "pause", "web")
			paused = append(paused, ask(b, dial, "x", 1))
		}
		b.ReportMetric(ms(median(paused)), "paused-ms")
		b.ReportMetric(ms(median(running)), "running-ms")
		b.ReportMetric(ms(median(paused)-median(running)), "added-ms")
		b.ReportMetric(0, "ns/op")
	}
}

// BenchmarkWakeHibernated measures from a connection to its first byte, of an
// instance that is on disk and of the same one at rest, which is started.
func BenchmarkWakeHibernated(b *testing.B) {
	for _, size := range []struct{ memory, touched int }{{256, 64}, {1024, 64}, {1024, 512}} {
		b.Run(fmt.Sprintf("%dMiB of %d", size.touched, size.memory), func(b *testing.B) {
			h := up(b)
			dial := heavyServer(b, h, "web", size.memory, size.touched)
			ask(b, dial, "x", 1)
			for b.Loop() {
				var asleep, cold, saving []time.Duration
				for range times(b, "AEGIS_BENCH_ROUNDS", 9) {
					saving = append(saving, took(func() { command(b, h, "instance", "hibernate", "web") }))
					asleep = append(asleep, ask(b, dial, "x", 1))
					command(b, h, "instance", "stop", "web")
					cold = append(cold, ask(b, dial, "x", 1))
				}
				b.ReportMetric(ms(median(asleep)), "hibernated-ms")
				b.ReportMetric(ms(median(cold)), "cold-ms")
				b.ReportMetric(float64(median(asleep))/float64(median(cold)), "hibernated/cold")
				b.ReportMetric(ms(median(saving)), "save-ms")
				b.ReportMetric(0, "ns/op")
			}
		})
	}
}

// BenchmarkWakeMany wakes many instances from disk at once.
func BenchmarkWakeMany(b *testing.B) {
	h := up(b)
	dials := make([]func() (net.Conn, error), times(b, "AEGIS_BENCH_INSTANCES", 50))
	for i := range dials {
		name := fmt.Sprint("web-", i)
		dials[i] = heavyServer(b, h, name, 128, 1)
		ask(b, dials[i], "x", 1)
		command(b, h, "instance", "hibernate", name)
	}
	for b.Loop() {
		var all sync.WaitGroup
		answered := make(chan time.Duration, len(dials))
		begin := time.Now()
		for _, dial := range dials {
			all.Go(func() {
				c, err := dial()
				if err != nil {
					b.Error(err)
					return
				}
				defer c.Close()
				if _, err = c.Write([]byte("x")); err == nil {
					_, err = c.Read(make([]byte, 1))
				}
				if err != nil {
					b.Error(err)
					return
				}
				answered <- time.Since(begin)
			})
		}
		all.Wait()
		if b.Failed() {
			log, _ := os.ReadFile(filepath.Join(h.Home, "data/aegisd.log"))
			b.Logf("%s", log[max(0, len(log)-64<<10):])
		}
		b.ReportMetric(float64(len(answered)), "answered")
		b.ReportMetric(ms(time.Since(begin)), "all-ms")
		b.ReportMetric(0, "ns/op")
	}
}
