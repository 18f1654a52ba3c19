package tests

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/api/restapi"
	"github.com/xfeldman/aegisvm/tests/testbed"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/vmmtest"
)

// history follows the events of a host from now on.
type history struct {
	t      *testing.T
	client *restapi.Client
	events <-chan api.Event
}

func follow(t *testing.T, h *testbed.Host) *history {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	client := restapi.NewClient(h.Socket)
	t.Cleanup(client.Close)
	events, err := client.Events(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return &history{t, client, events}
}

// await returns the event that is meant.
func (h *history) await(meant func(api.Event) bool) api.Event {
	h.t.Helper()
	for ev := range h.events {
		if meant(ev) {
			return ev
		}
	}
	h.t.Fatal("the event never came")
	return api.Event{}
}

// rest reads on to the end of the instance and returns its phases, with the
// reason of a failure, and "deleted".
func (h *history) rest() (all []string) {
	h.t.Helper()
	h.await(func(ev api.Event) bool {
		switch {
		case ev.Type == api.EventPhase && ev.Phase == api.PhaseFailed:
			all = append(all, "failed: "+ev.Message)
		case ev.Type == api.EventPhase:
			all = append(all, string(ev.Phase))
		case ev.Type == api.EventDeleted:
			all = append(all, "deleted")
		}
		return ev.Type == api.EventDeleted
	})
	return all
}

// failedOnly checks that what is left of an instance's life is its failure
// for a reason, and then its end.
func (h *history) failedOnly(reason string) {
	h.t.Helper()
	got := h.rest()
	if len(got) != 2 || !strings.HasPrefix(got[0], "failed: ") || !strings.Contains(got[0], reason) || got[1] != "deleted" {
		h.t.Errorf("the events tell %q; want a failure with %q, and the end", got, reason)
	}
}

// neverReady is a host whose guests never say that they are ready, and are
// given little time for it.
func neverReady(t *testing.T, h *testbed.Host) without {
	t.Helper()
	const setting = "AEGIS_READY_TIMEOUT=3s"
	var hanging vmm.Plan
	vmmtest.Real(t).NeverReady(t, &hanging)
	if h.Name == "standalone" {
		cli, lean := withGuest(t)
		replace(t, hanging.Initramfs, filepath.Join(lean, "initramfs.cpio"))
		return without{h, cli, []string{setting}}
	}
	guests, err := filepath.Glob(filepath.Join(h.Root, "usr/share/aegisvm/guest/*/initramfs.cpio"))
	if err != nil || len(guests) == 0 {
		t.Fatalf("no guests: %v", err)
	}
	for _, g := range guests {
		replace(t, hanging.Initramfs, g)
	}
	drop := filepath.Join(h.Root, "etc/systemd/system/aegisd.service.d")
	if err := os.MkdirAll(drop, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(drop, "ready.conf"), []byte("[Service]\nEnvironment="+setting+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if got := finish(ctx, t, h.Command(ctx, "systemctl", "daemon-reload"), nil); got.code != 0 {
		t.Fatalf("daemon-reload: %+v", got)
	}
	return without{h, "aegis", nil}
}

// withGuest is the CLI of a build with a guest of its own, whose initramfs is
// still missing.
func withGuest(t *testing.T) (cli, guest string) {
	t.Helper()
	cli = withoutKernel(t)
	guest = filepath.Join(filepath.Dir(cli), "../share/aegisvm/guest/lean")
	if err := os.MkdirAll(guest, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(testbed.Guest(t), "kernel"), filepath.Join(guest, "kernel")); err != nil {
		t.Fatal(err)
	}
	return cli, guest
}

func replace(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestAGuestThatIsNeverReadyIsSaidPlainly(t *testing.T) {
	if testing.Short() {
		t.Skip("boots real machines")
	}
	const reason = "not ready within 3s"
	for name, host := range map[string]func(testing.TB) *testbed.Host{"standalone": testbed.Standalone, "system": testbed.System} {
		t.Run(name, func(t *testing.T) {
			w := neverReady(t, host(t))
			if up := w.run(t, "up"); up.code != 0 {
				t.Fatalf("aegis up: %+v", up)
			}
			before := inventory(t, w.Host)
			events := follow(t, w.Host)
			got := w.run(t, "run", "--", "true")
			if got.code != 125 || !strings.Contains(got.stderr, reason) || strings.Count(got.stderr, "\n") != 1 {
				t.Errorf("exit %d, stderr %q; want 125 and one line with %q", got.code, got.stderr, reason)
			}
			events.await(booting)
			events.failedOnly(reason)
			if after := inventory(t, w.Host); after != before {
				t.Errorf("left behind:\n%s\nbefore:\n%s", after, before)
			}
			if got := w.run(t, "instance", "start", "--name", "web", "--", "true"); got.code != 1 || !strings.Contains(got.stderr, reason) {
				t.Errorf("start: %+v", got)
			}
			if got := w.run(t, "status", "-o", "json"); !strings.Contains(got.stdout, reason) {
				t.Errorf("the status does not say why: %s", got.stdout)
			}
			if got := w.run(t, "instance", "delete", "web"); got.code != 0 {
				t.Errorf("delete: %+v", got)
			}
		})
	}
}

// killBooting kills the monitor of the next machine as soon as there is one.
const killBooting = `
while :; do
	for m in $(ls "$1" /run/aegis/vmm 2>/dev/null | grep '^m-'); do
		for p in $(pgrep -f "name aegis-$m"); do
			kill -KILL $p && exit 0
		done
	done
done
`

func TestAMonitorThatIsKilledWhileItBootsIsSaidPlainly(t *testing.T) {
	onEveryHost(t, func(t *testing.T, h *testbed.Host) {
		if got := aegis(t, h, nil, "run", "--", "true"); got.code != 0 {
			t.Fatalf("a run before: %+v", got)
		}
		before := inventory(t, h)
		events := follow(t, h)
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		cmd := h.Command(ctx, "aegis", "run", "--", "true")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		events.await(booting)
		killer := h.Command(ctx, "sh", "-c", killBooting, "sh", filepath.Join(h.Home, "data/machines"))
		if got := finish(ctx, t, killer, nil); got.code != 0 {
			t.Fatalf("killing the monitor: %+v", got)
		}
		killed := time.Now()
		cmd.Wait()
		t.Logf("the CLI ended %v after the monitor", time.Since(killed).Round(time.Millisecond))
		if code := cmd.ProcessState.ExitCode(); code != 125 || !strings.Contains(stderr.String(), "killed") || strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("exit %d, stderr %q; want 125 and one line with %q", code, stderr.String(), "killed")
		}
		events.failedOnly("killed")
		if after := inventory(t, h); after != before {
			t.Errorf("left behind:\n%s\nbefore:\n%s", after, before)
		}
	})
}

// What is noticed is an event, so it is noticed at once; how soon that is is
// told, not required.
func TestAMonitorsDeathIsNoticedAtOnce(t *testing.T) {
	onEveryHost(t, func(t *testing.T, h *testbed.Host) {
		events := follow(t, h)
		r := begin(t, h, "echo up; sleep 1000")
		events.await(func(ev api.Event) bool { return ev.Type == api.EventPhase && ev.Phase == api.PhaseRunning })
		killMachines(t, h, "monitor")
		killed := time.Now()
		got := r.end(t)
		t.Logf("the CLI ended %v after the monitor", time.Since(killed).Round(time.Millisecond))
		if got.code != 125 || !strings.Contains(got.stderr, "killed") {
			t.Errorf("%+v", got)
		}
		events.failedOnly("killed")
	})
}
