package bench

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/xfeldman/aegisvm/tests/testbed"
)

// BenchmarkSteady runs a hundred machines one after the other and tells what
// the daemon's memory and descriptors do, and what is left behind.
func BenchmarkSteady(b *testing.B) {
	h := up(b)
	for b.Loop() {
		before := resources(b, h)
		for i := 1; i <= 100; i++ {
			command(b, h, "run", "--", "true")
			if i == 20 || i == 60 || i == 100 {
				b.ReportMetric(float64(resources(b, h)["rss-KiB"])/1024, fmt.Sprintf("rss-after-%d-MiB", i))
			}
		}
		after := resources(b, h)
		left := 0
		for what, n := range after {
			if what == "rss-KiB" || what == "threads" {
				continue // the runtime keeps threads, a few more or less
			}
			if n != before[what] {
				b.Logf("%s: %d before, %d after", what, before[what], n)
			}
			left += max(0, n-before[what])
		}
		b.ReportMetric(float64(left), "left-behind")
		b.ReportMetric(0, "ns/op")
	}
}

// resources counts what the daemon holds and what lies about.
func resources(b *testing.B, h *testbed.Host) map[string]int {
	b.Helper()
	pid := strings.TrimSpace(string(read(b, h.Home+"/data/aegisd.pid")))
	r := map[string]int{
		"machines":    machines(b, h),
		"disks":       count(b, h.Home+"/data/disks"),
		"descriptors": count(b, "/proc/"+pid+"/fd"),
		"mounts":      strings.Count(string(read(b, "/proc/mounts")), "\n"),
		"sockets":     strings.Count(string(read(b, "/proc/net/unix")), h.Home),
		"processes":   testbed.Processes(b, h.Home),
		"rows":        strings.Count(command(b, h, "status", "-o", "json"), `"id"`),
	}
	for line := range strings.Lines(string(read(b, "/proc/"+pid+"/status"))) {
		var n int
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &n); err == nil {
			r["rss-KiB"] = n
		}
		if _, err := fmt.Sscanf(line, "Threads: %d", &n); err == nil {
			r["threads"] = n
		}
	}
	return r
}

func read(b *testing.B, path string) []byte {
	b.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	return data
}

func count(b *testing.B, dir string) int {
	b.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		b.Fatal(err)
	}
	return len(entries)
}
