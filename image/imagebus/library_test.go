package imagebus_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus/bustest"
	"github.com/xfeldman/aegisvm/image"
	"github.com/xfeldman/aegisvm/image/imagebus"
	"github.com/xfeldman/aegisvm/image/imagetest"
	"github.com/xfeldman/aegisvm/image/registry"
)

func TestTheLibraryTravelsOverTheBus(t *testing.T) {
	address, ctx := bustest.Start(t), t.Context()
	r := imagetest.NewRegistry(t)
	img := imagetest.Of([]imagetest.Entry{imagetest.File("a", "1")})
	img.Config.Env = []string{"A=b"}
	d := r.Push(t, "img", "1", img)
	local, err := image.Open(t.TempDir(), image.Options{Registry: registry.Options{Config: r.Config(t)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { local.Close() })
	serve(t, address, local, "root")
	c := imagebus.NewClient(bustest.Dial(t, address))

	var stages []string
	got, err := c.Pull(ctx, r.Host+"/img:1", api.PullMissing, func(p image.Progress) {
		if len(stages) == 0 || stages[len(stages)-1] != p.Stage {
			stages = append(stages, p.Stage)
		}
	})
	if err != nil || got.Digest != string(d.Digest) || got.Ref != r.Host+"/img:1" {
		t.Fatalf("pull: %+v, %v", got, err)
	}
	if diff := cmp.Diff([]string{"resolving", "downloading", "building", "ready"}, stages); diff != "" {
		t.Errorf("progress: %s", diff)
	}
	if _, err := c.Tag(ctx, got.Digest, "mine"); err != nil {
		t.Fatal(err)
	}
	want, err := local.Info(ctx, "mine")
	if err != nil {
		t.Fatal(err)
	}
	if info, err := c.Info(ctx, "mine"); err != nil || !cmp.Equal(want, info) {
		t.Errorf("info: %v %s", err, cmp.Diff(want, info))
	}
	want.Ref = ""
	if all, err := c.List(ctx); err != nil || !cmp.Equal([]image.Info{want}, all) {
		t.Errorf("list: %v %s", err, cmp.Diff([]image.Info{want}, all))
	}
	saved, err := os.Create(filepath.Join(t.TempDir(), "saved"))
	if err != nil {
		t.Fatal(err)
	}
	defer saved.Close()
	if err := c.Save(ctx, []string{"mine"}, saved); err != nil {
		t.Fatal(err)
	}
	if err := c.Remove(ctx, "mine", nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Remove(ctx, got.Digest, []string{got.Digest}); api.CodeOf(err) != api.BadState {
		t.Errorf("remove of what is in use: %v", err)
	}
	if removed, err := c.Prune(ctx, nil); err != nil || len(removed) != 1 {
		t.Errorf("prune: %+v, %v", removed, err)
	}
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	go func() {
		defer out.Close()
		io.Copy(out, io.NewSectionReader(saved, 0, 1<<30))
	}()
	loaded, err := c.Load(ctx, in, "again", nil)
	if err != nil || len(loaded) != 1 || loaded[0].Digest != got.Digest {
		t.Errorf("load: %+v, %v", loaded, err)
	}
}

func TestWhatTheBusCannotCarryIsRefused(t *testing.T) {
	address := bustest.Start(t)
	local, err := image.Open(t.TempDir(), image.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { local.Close() })
	serve(t, address, local, "root")
	c := imagebus.NewClient(bustest.Dial(t, address))
	const bad = "\xff\x00"
	for name, call := range map[string]func(context.Context) error{
		"pull":   func(ctx context.Context) error { _, err := c.Pull(ctx, bad, "", nil); return err },
		"policy": func(ctx context.Context) error { _, err := c.Pull(ctx, "x", bad, nil); return err },
		"load":   func(ctx context.Context) error { _, err := c.Load(ctx, nil, bad, nil); return err },
		"save":   func(ctx context.Context) error { return c.Save(ctx, []string{bad}, nil) },
		"tag":    func(ctx context.Context) error { _, err := c.Tag(ctx, "x", bad); return err },
		"info":   func(ctx context.Context) error { _, err := c.Info(ctx, bad); return err },
		"remove": func(ctx context.Context) error { return c.Remove(ctx, bad, nil) },
		"prune":  func(ctx context.Context) error { _, err := c.Prune(ctx, []string{bad}); return err },
		"none":   func(ctx context.Context) error { _, err := c.Load(ctx, nil, "x", nil); return err },
	} {
		if err := call(t.Context()); api.CodeOf(err) != api.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.List(t.Context()); err != nil {
		t.Errorf("the connection was lost: %v", err)
	}
}

// pullWaiting is a store whose Pull lasts until nobody waits for it.
type pullWaiting struct {
	waiting
}

func (w pullWaiting) Pull(ctx context.Context, _ string, _ api.PullPolicy, report func(image.Progress)) (image.Image, error) {
	return w.Prepare(ctx, "", report)
}

func TestAPullEndsWhenItsCallerGivesUp(t *testing.T) {
	address := bustest.Start(t)
	store := pullWaiting{waiting{started: make(chan struct{}), ended: make(chan struct{})}}
	serve(t, address, store, "root")
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := imagebus.NewClient(bustest.Dial(t, address)).Pull(ctx, "x", "", nil)
		failed <- err
	}()
	<-store.started
	cancel()
	if err := <-failed; err == nil {
		t.Error("a caller that gave up got no error")
	}
	<-store.ended
}
