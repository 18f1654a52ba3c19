package tests

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os/exec"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/tests/testbed"
)

// begun is a command of the CLI that runs beside the test.
type begun struct {
	*exec.Cmd
	out *bufio.Reader
}

func beside(ctx context.Context, t *testing.T, h *testbed.Host, args ...string) begun {
	t.Helper()
	cmd := h.Command(ctx, append([]string{"aegis"}, args...)...)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return begun{cmd, bufio.NewReader(out)}
}

func TestWaitAndEventsSurviveARestartOfAegisd(t *testing.T) {
	onEveryHost(t, func(t *testing.T, h *testbed.Host) {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		for name, script := range map[string]string{"job": "exit 4", "web": "trap 'exit 7' TERM; echo up; while :; do sleep 0.1; done"} {
			if got := aegis(t, h, nil, "instance", "start", "-q", "--name", name, "--", "sh", "-c", script); got.code != 0 {
				t.Fatalf("start: %+v", got)
			}
		}
		awaitLine(ctx, t, h, "web", "up\n")
		events := beside(ctx, t, h, "events", "-o", "json")
		heard := make(chan api.Event, 1000)
		go tellEvents(events.out, heard)
		follows(t, h, heard)
		wait := beside(ctx, t, h, "instance", "wait", "job", "web")
		if line, err := wait.out.ReadString('\n'); line != "4\n" {
			t.Fatalf("the first wait: %q, %v", line, err)
		}
		killDaemon(t, h, "aegisd")
		if got := aegis(t, h, nil, "up"); got.code != 0 {
			t.Fatalf("aegis up: %+v", got)
		}
		for ev := range heard {
			if ev.Type == api.EventGap {
				break
			}
		}
		if got := aegis(t, h, nil, "instance", "stop", "-q", "web"); got.code != 0 {
			t.Fatalf("stop: %+v", got)
		}
		rest, err := io.ReadAll(wait.out)
		if werr := wait.Wait(); string(rest) != "7\n" || err != nil || werr != nil {
			t.Errorf("the second wait: %q, %v, %v", rest, err, werr)
		}
		for ev := range heard {
			if ev.Type == api.EventPhase && ev.Handle == "web" && ev.Phase == api.PhaseStopped {
				break
			}
		}
		if ctx.Err() != nil {
			t.Error("an event is missing")
		}
		events.Process.Kill()
		events.Wait()
	})
}

func tellEvents(from io.Reader, to chan<- api.Event) {
	defer close(to)
	for d := json.NewDecoder(from); ; {
		var ev api.Event
		if d.Decode(&ev) != nil {
			return
		}
		to <- ev
	}
}

// follows returns once a follower of events tells what happens.
func follows(t *testing.T, h *testbed.Host, heard <-chan api.Event) {
	t.Helper()
	for _, to := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		if got := aegis(t, h, nil, "instance", "rename", "job", to); got.code != 0 {
			t.Fatalf("rename: %+v", got)
		}
		if got := aegis(t, h, nil, "instance", "rename", to, "job"); got.code != 0 {
			t.Fatalf("rename: %+v", got)
		}
		select {
		case <-heard:
			return
		default:
		}
	}
	<-heard
}
