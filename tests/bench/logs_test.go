package bench

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/api/restapi"
)

// logMiB is how much a program prints for a follower: 16 MiB, or what
// AEGIS_BENCH_LOG_MIB says; the figure is for 1024.
func logMiB(b *testing.B) int {
	text := os.Getenv("AEGIS_BENCH_LOG_MIB")
	if text == "" {
		return 16
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		b.Fatalf("AEGIS_BENCH_LOG_MIB=%s: expected a number of MiB", text)
	}
	return n
}

// logLine is line i of the program, which seq prints with logFormat.
const logFormat = "%010.0f the quick brown fox jumps over the lazy dog and is followed by it\n"

func logLine(i int) string { return fmt.Sprintf(logFormat, float64(i)) }

// BenchmarkFollow counts what a follower loses of a log that is many times as
// long as what is kept of it.
func BenchmarkFollow(b *testing.B) {
	h := up(b)
	lines := logMiB(b) << 20 / len(logLine(0))
	client := restapi.NewClient(h.Socket)
	defer client.Close()
	for b.Loop() {
		in, err := client.Create(b.Context(), api.Caller{}, api.InstanceSpec{
			Command: []string{"seq", "-f", logFormat[:len(logFormat)-1], strconv.Itoa(lines)},
		})
		if err != nil {
			b.Fatal(err)
		}
		cmd := h.Command(b.Context(), "aegis", "logs", "-f", "--source", "server", in.ID)
		out, err := cmd.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		got, took := readLog(b, out, lines)
		if err := client.Delete(b.Context(), in.ID); err != nil {
			b.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64((lines-got)*len(logLine(0))), "lost-bytes")
		b.ReportMetric(float64(got*len(logLine(0)))/(1<<20)/took.Seconds(), "MiB/s")
		b.ReportMetric(0, "ns/op")
	}
}

// readLog counts the lines that come in order until the last one, and the time
// from the first to it.
func readLog(b *testing.B, r io.Reader, lines int) (got int, took time.Duration) {
	in := bufio.NewReaderSize(r, 1<<20)
	var begin time.Time
	last := logLine(lines)
	for want := 1; ; {
		line, err := in.ReadString('\n')
		if err != nil {
			b.Fatalf("after %d lines: %v", got, err)
		}
		if begin.IsZero() {
			begin = time.Now()
		}
		i, err := strconv.Atoi(line[:10])
		if err != nil || i < want || line != logLine(i) {
			b.Fatalf("line %d came where %d or a later one was expected: %q", i, want, line)
		}
		got, want = got+1, i+1
		if line == last {
			return got, time.Since(begin)
		}
	}
}
