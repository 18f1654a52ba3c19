package bench

import (
	"bufio"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/tests/testbed"
)

// rounds is how often each side of a ratio is measured, in turns.
const rounds = 15

func median(d []time.Duration) time.Duration {
	d = slices.Clone(d)
	slices.Sort(d)
	return d[len(d)/2]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// up starts a standalone daemon with the base image prepared.
func up(b *testing.B) *testbed.Host {
	b.Helper()
	return ready(b, testbed.Standalone)
}

// ready starts the daemons of a host with the base image prepared.
func ready(b *testing.B, host func(testing.TB) *testbed.Host) *testbed.Host {
	b.Helper()
	h := host(b)
	command(b, h, "up")
	command(b, h, "run", "--", "true")
	return h
}

func command(b *testing.B, h *testbed.Host, args ...string) string {
	b.Helper()
	out, err := h.Command(b.Context(), append([]string{"aegis"}, args...)...).CombinedOutput()
	if err != nil {
		b.Fatalf("aegis %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// BenchmarkColdRun compares `aegis run -- true` with the bare machine, in
// turns, with a second bare series as the control.
func BenchmarkColdRun(b *testing.B) {
	h, bare := up(b), newBare(b)
	for b.Loop() {
		var ours, plain, control []time.Duration
		for range rounds {
			plain = append(plain, bare.run(b.Context(), "true"))
			begin := time.Now()
			command(b, h, "run", "--", "true")
			ours = append(ours, time.Since(begin))
			control = append(control, bare.run(b.Context(), "true"))
		}
		b.ReportMetric(ms(median(ours)), "ours-ms")
		b.ReportMetric(ms(median(plain)), "bare-ms")
		b.ReportMetric(float64(median(ours))/float64(median(plain)), "ours/bare")
		b.ReportMetric(float64(median(control))/float64(median(plain)), "bare/bare")
		b.ReportMetric(0, "ns/op")
	}
}

// BenchmarkLeave measures from the program's last byte of output to the
// CLI's exit, by which time everything is released.
func BenchmarkLeave(b *testing.B) {
	h := up(b)
	for b.Loop() {
		var leave []time.Duration
		for range rounds {
			leave = append(leave, leaveOnce(b, h))
		}
		b.ReportMetric(ms(median(leave)), "leave-ms")
		b.ReportMetric(ms(slices.Max(leave)), "leave-max-ms")
		b.ReportMetric(0, "ns/op")
	}
}

func leaveOnce(b *testing.B, h *testbed.Host) time.Duration {
	cmd := h.Command(b.Context(), "aegis", "run", "--", "echo", "done")
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "done\n" {
		b.Fatalf("read %q, %v", line, err)
	}
	begin := time.Now()
	if err := cmd.Wait(); err != nil {
		b.Fatal(err)
	}
	took := time.Since(begin)
	if left := machines(b, h); left != 0 {
		b.Fatalf("%d machines are left when the CLI has ended", left)
	}
	return took
}

// machines counts the machine directories of a host's daemon.
func machines(b *testing.B, h *testbed.Host) int {
	entries, err := os.ReadDir(h.Home + "/data/machines")
	if err != nil && !os.IsNotExist(err) {
		b.Fatal(err)
	}
	return len(entries)
}
