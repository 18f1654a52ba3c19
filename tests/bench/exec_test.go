package bench

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/guestsession"
	"github.com/xfeldman/aegisvm/tests/testbed"
	"github.com/xfeldman/aegisvm/vmm/worker"
)

// execRounds is how often each side is measured: what takes milliseconds needs
// more rounds than a boot does.
const execRounds = 60

// BenchmarkExec compares `aegis exec web -- true` with what it cannot do
// without: a round trip that starts the same program over a control connection
// that is open, and hears of its end. Beside it are what lies below that, a byte
// there and back, and what lies above it, a CLI that asks aegisd for a record.
func BenchmarkExec(b *testing.B) {
	h := up(b)
	command(b, h, "instance", "start", "--name", "web", "--", "sleep", "1000000")
	byteThere := openCat(b, h)
	spawn := openControl(b, h)
	sides := map[string]func(){
		"ours":  func() { command(b, h, "exec", "web", "--", "true") },
		"spawn": spawn,
		"byte":  byteThere,
		"info":  func() { command(b, h, "instance", "info", "web") },
		"cli":   func() { command(b, h, "version") },
	}
	for b.Loop() {
		took := map[string][]time.Duration{}
		for range execRounds {
			for name, side := range sides {
				begin := time.Now()
				side()
				took[name] = append(took[name], time.Since(begin))
			}
		}
		for name := range sides {
			b.ReportMetric(ms(median(took[name])), name+"-ms")
		}
		for _, bare := range []string{"spawn", "byte"} {
			b.ReportMetric(float64(median(took["ours"]))/float64(median(took[bare])), "ours/"+bare)
		}
		b.ReportMetric(0, "ns/op")
	}
}

// openCat opens a stream of a machine; what it returns sends a byte there and
// back.
func openCat(b *testing.B, h *testbed.Host) func() {
	cmd := h.Command(b.Context(), "aegis", "exec", "-i", "web", "--", "cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	buf := []byte{'!'}
	trip := func() {
		_, err := in.Write(buf)
		if err == nil {
			_, err = io.ReadFull(out, buf)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	trip() // cat runs
	return trip
}

// openControl opens a control connection past all daemons; what it returns
// starts a program on it and waits for its end.
func openControl(b *testing.B, h *testbed.Host) func() {
	var in api.Instance
	if err := json.Unmarshal([]byte(command(b, h, "instance", "info", "-o", "json", "web")), &in); err != nil {
		b.Fatal(err)
	}
	machine := worker.Client{Dir: filepath.Join(h.Home, "data/machines", in.Machine)}
	s, err := guestsession.Open(b.Context(), func(ctx context.Context, port uint32) (*os.File, error) {
		return machine.Connect(ctx, port)
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Close)
	return func() {
		err := s.Start(b.Context(), guestsession.Process{ID: "spawn", Argv: []string{"true"}, Env: []string{"PATH=/usr/bin:/bin"}})
		if err != nil {
			b.Fatal(err)
		}
		if end, err := s.Wait(b.Context(), "spawn"); err != nil || end.Code != 0 {
			b.Fatalf("%+v, %v", end, err)
		}
	}
}
