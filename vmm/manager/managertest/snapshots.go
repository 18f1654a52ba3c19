package managertest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm"
)

// paused starts a machine that can be saved and pauses it.
func paused(t *testing.T, w World, id string) {
	t.Helper()
	w.Driver.SetSaves(true)
	t.Cleanup(w.Driver.Discard)
	_, err := w.Start(t.Context(), Spec(id))
	must(t, err)
	must(t, w.Pause(t.Context(), id))
}

func (w World) remove(t *testing.T, id string) {
	t.Helper()
	must(t, w.Stop(t.Context(), id))
	must(t, w.Remove(t.Context(), id))
}

func (w World) listed(t *testing.T, want ...vmm.Saved) {
	t.Helper()
	all, err := w.Snapshots(t.Context())
	must(t, err)
	if diff := cmp.Diff(append([]vmm.Saved{}, want...), all); diff != "" {
		t.Errorf("snapshots: %s", diff)
	}
}

func snapshots(t *testing.T, w World) {
	ctx := t.Context()
	paused(t, w, "one")
	saved, err := w.Snapshot(ctx, "one", "snap")
	must(t, err)
	if saved.ID != "snap" || saved.Machine != "one" || saved.MemoryMiB != 128 || saved.VCPUs != 1 || saved.Driver != "fake" ||
		saved.Version != "1" || len(saved.Guest) != 64 || saved.Bytes == 0 || time.Since(saved.Taken) > time.Minute {
		t.Errorf("saved: %+v", saved)
	}
	w.listed(t, saved)
	i, err := w.Get(ctx, "one")
	must(t, err)
	if i.State != vmm.StatePaused {
		t.Errorf("after the snapshot it is %s", i.State)
	}
	w.remove(t, "one")
	for _, id := range []string{"two", "three"} { // the first one is never let go on
		s := Spec(id)
		s.Restore = "snap"
		i, err := w.Start(ctx, s)
		must(t, err)
		if i.State != vmm.StatePaused {
			t.Errorf("restored: %+v", i)
		}
		if id == "two" {
			w.remove(t, id)
		}
	}
	must(t, w.Resume(ctx, "three"))
	i, err = w.Get(ctx, "three")
	must(t, err)
	if i.State != vmm.StateRunning {
		t.Errorf("resumed: %+v", i)
	}
	must(t, w.RemoveSnapshot(ctx, "snap"))
	must(t, w.RemoveSnapshot(ctx, "snap"))
	w.listed(t)
	w.remove(t, "three")
}

func refusedSnapshots(t *testing.T, w World) {
	ctx := t.Context()
	paused(t, w, "one")
	for name, c := range map[string]struct {
		id, snapshot string
		before       func()
		code         api.Code
	}{
		"of nobody":        {"two", "snap", func() {}, api.NotFound},
		"with a path":      {"one", "../snap", func() {}, api.InvalidArgument},
		"of one that runs": {"one", "snap", func() { must(t, w.Resume(ctx, "one")) }, api.BadState},
	} {
		must(t, w.Pause(ctx, "one"))
		c.before()
		_, err := w.Snapshot(ctx, c.id, c.snapshot)
		if api.CodeOf(err) != c.code {
			t.Errorf("%s: %v, %s expected", name, err, c.code)
		}
	}
	w.listed(t)
	must(t, w.Pause(ctx, "one"))
	saved, err := w.Snapshot(ctx, "one", "snap")
	must(t, err)
	_, err = w.Snapshot(ctx, "one", "snap")
	wantCode(t, err, api.Exists, "snap")
	must(t, w.Stop(ctx, "one"))
	_, err = w.Snapshot(ctx, "one", "other")
	wantCode(t, err, api.BadState, "one")
	w.listed(t, saved)
}

func misfits(t *testing.T, w World) {
	paused(t, w, "one")
	_, err := w.Snapshot(t.Context(), "one", "snap")
	must(t, err)
	for name, c := range map[string]struct {
		change func(*vmm.Spec)
		code   api.Code
	}{
		"another snapshot": {func(s *vmm.Spec) { s.Restore = "none" }, api.NotFound},
		"a path":           {func(s *vmm.Spec) { s.Restore = "../snap" }, api.NotFound},
		"more memory":      {func(s *vmm.Spec) { s.MemoryMiB *= 2 }, api.InvalidArgument},
		"more processors":  {func(s *vmm.Spec) { s.VCPUs++ }, api.InvalidArgument},
	} {
		s := Spec("two")
		s.Restore = "snap"
		c.change(&s)
		_, err := w.Start(t.Context(), s)
		if api.CodeOf(err) != c.code {
			t.Errorf("%s: %v, %s expected", name, err, c.code)
		}
		w.nothing(t, "two")
	}
}
