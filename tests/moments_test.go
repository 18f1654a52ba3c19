package tests

import (
	"bufio"
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/api/restapi"
	"github.com/xfeldman/aegisvm/tests/testbed"
)

// The moments of a run, as the events of aegisd tell them.
func preparing(ev api.Event) bool {
	return ev.Type == api.EventPhase && ev.Phase == api.PhaseStarting
}

func booting(ev api.Event) bool { return ev.Type == api.EventProgress && ev.Message == "booting" }

func releasing(ev api.Event) bool {
	return ev.Type == api.EventPhase && ev.Phase == api.PhaseStopping
}

// death is a daemon killed at a moment of a run.
type death struct {
	name, daemon string
	when         func(api.Event) bool
	// frozen is a daemon that is stopped before, so that what it is asked at
	// the moment is not done yet when the other one dies.
	frozen string
	code   int
	// said is how the one line on stderr begins; empty for none.
	said string
}

const notReleased = "aegis: the machine is not released yet, aegisd does that when it can: "

func TestADaemonThatDiesInTheMidstOfARun(t *testing.T) {
	deaths := map[string][]death{
		"standalone": {
			// It went away, or was gone when the client attached.
			{name: "aegisd, preparing", daemon: "aegisd", when: preparing, code: 125, said: "aegis: aegisd "},
			{name: "aegisd, booting", daemon: "aegisd", when: booting, code: 125, said: "aegis: aegisd went away"},
			{name: "aegisd, releasing", daemon: "aegisd", when: releasing, code: 5, said: notReleased},
		},
		"system": {
			{name: "imaged, preparing", daemon: "aegis-imaged", frozen: "aegis-imaged", when: preparing, code: 125, said: "aegis: preparing the image: org.aegisvm.Image1 went away"},
			{name: "vmmd, asked to boot", daemon: "aegis-vmmd", frozen: "aegis-vmmd", when: booting, code: 125, said: "aegis: starting the machine: org.aegisvm.Vmm1 went away"},
			{name: "vmmd, booting", daemon: "aegis-vmmd", when: booting, code: 125, said: "aegis: starting the machine: org.aegisvm.Vmm1 went away"},
			{name: "aegisd, preparing", daemon: "aegisd", frozen: "aegis-imaged", when: preparing, code: 125, said: "aegis: org.aegisvm.Aegis1 went away"},
			{name: "aegisd, booting", daemon: "aegisd", when: booting, code: 125, said: "aegis: org.aegisvm.Aegis1 went away"},
			{name: "imaged, releasing", daemon: "aegis-imaged", frozen: "aegis-imaged", when: releasing, code: 5},
			{name: "vmmd, releasing", daemon: "aegis-vmmd", frozen: "aegis-vmmd", when: releasing, code: 5},
			{name: "aegisd, releasing", daemon: "aegisd", frozen: "aegis-vmmd", when: releasing, code: 5, said: notReleased},
		},
	}
	onEveryHost(t, func(t *testing.T, h *testbed.Host) {
		// The image disk is there, and every daemon runs.
		if got := aegis(t, h, nil, "run", "--", "true"); got.code != 0 {
			t.Fatalf("a run before: %+v", got)
		}
		before := inventory(t, h)
		for _, d := range deaths[h.Name] {
			t.Run(d.name, func(t *testing.T) {
				got := d.happen(t, h)
				lines := min(1, len(d.said))
				if got.code != d.code || !strings.HasPrefix(got.stderr, d.said) || strings.Count(got.stderr, "\n") != lines {
					t.Errorf("exit %d, stderr %q; want %d, %q...", got.code, got.stderr, d.code, d.said)
				}
				if got := aegis(t, h, nil, "up"); got.code != 0 {
					t.Fatalf("aegis up: %+v", got)
				}
				if d.said == notReleased {
					settle(t, h)
				}
				awaitNone(t, h)
				if after := inventory(t, h); after != before {
					t.Errorf("left behind:\n%s\nbefore:\n%s", after, before)
				}
				if got := aegis(t, h, nil, "run", "--", "echo", "again"); got.stdout != "again\n" || got.code != 0 {
					t.Errorf("the next run: %+v", got)
				}
			})
		}
	})
}

// happen runs a program that ends with its input, and kills the daemon.
func (d death) happen(t *testing.T, h *testbed.Host) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	client := restapi.NewClient(h.Socket)
	defer client.Close()
	events, err := client.Events(ctx)
	if err != nil {
		t.Fatal(err)
	}
	late := d.when(api.Event{Type: api.EventPhase, Phase: api.PhaseStopping})
	if d.frozen != "" && !late {
		signalDaemon(t, h, d.frozen, "STOP")
	}
	r := &running{host: h, Cmd: h.Command(ctx, "aegis", "run", "-i", "--", "sh", "-c", "echo up; read line; exit 5"), stderr: &bytes.Buffer{}}
	r.Stderr = r.stderr
	in, err := r.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := r.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	r.stdout = bufio.NewReader(out)
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	if late {
		if line, err := r.stdout.ReadString('\n'); err != nil {
			t.Errorf("the program said %q, %v", line, err)
		}
		if d.frozen != "" {
			signalDaemon(t, h, d.frozen, "STOP")
		}
		in.Close()
	}
	d.await(t, events)
	signalDaemon(t, h, d.daemon, "KILL")
	if d.frozen != "" && d.frozen != d.daemon {
		signalDaemon(t, h, d.frozen, "CONT")
	}
	in.Close()
	return r.end(t)
}

func (d death) await(t *testing.T, events <-chan api.Event) {
	t.Helper()
	for ev := range events {
		if d.when(ev) {
			return
		}
	}
	t.Fatal("the moment never came")
}
