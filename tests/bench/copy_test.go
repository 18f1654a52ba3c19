package bench

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// copyRounds of a copy in and a copy out, each beside the bare transport.
const copyRounds = 3

// copyBytes is how large the file is: 1 GiB, or as many MiB as
// AEGIS_BENCH_COPY_MIB says.
func copyBytes(b *testing.B) int64 {
	b.Helper()
	text := os.Getenv("AEGIS_BENCH_COPY_MIB")
	if text == "" {
		return 1 << 30
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 1 {
		b.Fatalf("AEGIS_BENCH_COPY_MIB=%q: expected a number of MiB", text)
	}
	return n << 20
}

// BenchmarkCopy compares `aegis cp` of one large file, into a machine's disk and
// out of it, with the raw port: with echo.c, which has both directions at once,
// as BenchmarkCat does, and with oneway.c. What the machine's own disk takes of
// itself is measured as well, because a copy cannot be faster.
func BenchmarkCopy(b *testing.B) {
	h, echo, raw, size := up(b), rawPort(b, "echo"), rawPort(b, "oneway"), copyBytes(b)
	command(b, h, "instance", "start", "--name", "copy", "--", "sleep", "1000000")
	dir := b.TempDir()
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	sum := random(b, src, size)
	dd := []string{"exec", "copy", "--", "dd", "if=/dev/zero", "of=/var/disk", "bs=128K", fmt.Sprintf("count=%d", size>>17)}
	for b.Loop() {
		var in, out, rawIn, rawOut, disk, both []time.Duration
		for range copyRounds {
			both = append(both, pump(b, echo, echo))
			rawIn = append(rawIn, took(func() { oneWay(b, raw, 'i', size) }))
			in = append(in, took(func() { command(b, h, "cp", src, "copy:/var/file") }))
			disk = append(disk, took(func() { command(b, h, dd...) }))
			command(b, h, "exec", "copy", "--", "rm", "/var/disk")
			rawOut = append(rawOut, took(func() { oneWay(b, raw, 'o', size) }))
			out = append(out, took(func() { command(b, h, "cp", "copy:/var/file", dst) }))
			if got := digest(b, dst); got != sum {
				b.Fatalf("another file came back: %s, want %s", got, sum)
			}
		}
		speed := func(d []time.Duration) float64 { return float64(size>>20) / median(d).Seconds() }
		for name, value := range map[string]float64{
			"in-MiB/s": speed(in), "out-MiB/s": speed(out), "disk-MiB/s": speed(disk), "echo-MiB/s": throughput(both),
			"raw-in-MiB/s": speed(rawIn), "raw-out-MiB/s": speed(rawOut),
			"in/echo": speed(in) / throughput(both), "out/echo": speed(out) / throughput(both), "in/disk": speed(in) / speed(disk),
			"in/raw-in": speed(in) / speed(rawIn), "out/raw-out": speed(out) / speed(rawOut), "ns/op": 0,
		} {
			b.ReportMetric(value, name)
		}
	}
}

func took(f func()) time.Duration {
	begin := time.Now()
	f()
	return time.Since(begin)
}

// oneWay moves bytes through the raw port: in, until the guest has them, or
// out.
func oneWay(b *testing.B, port io.ReadWriter, direction byte, size int64) {
	b.Helper()
	block := make([]byte, 1<<20)
	_, err := port.Write(binary.LittleEndian.AppendUint64([]byte{direction}, uint64(size)))
	for left := size; direction == 'i' && left > 0 && err == nil; left -= int64(len(block)) {
		_, err = port.Write(block[:min(left, int64(len(block)))])
	}
	want := size
	if direction == 'i' {
		want = 1
	}
	if err == nil {
		_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.LimitReader(port, want), block)
	}
	if err != nil {
		b.Fatal(err)
	}
}

// random writes a file of random bytes and returns its digest.
func random(b *testing.B, path string, size int64) string {
	b.Helper()
	f, err := os.Create(path)
	if err == nil {
		_, err = io.CopyN(f, rand.Reader, size)
		f.Close()
	}
	if err != nil {
		b.Fatal(err)
	}
	return digest(b, path)
}

func digest(b *testing.B, path string) string {
	b.Helper()
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		b.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}
