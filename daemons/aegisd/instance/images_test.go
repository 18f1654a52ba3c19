package instance_test

import (
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/image"
	"github.com/xfeldman/aegisvm/image/imagetest"
	"github.com/xfeldman/aegisvm/image/registry"
)

// library is the part of the image store that is no fake.
func library(t testing.TB) *image.Local {
	t.Helper()
	s, err := image.Open(filepath.Join(t.TempDir(), "images"), image.Options{
		Registry: registry.Options{Config: imagetest.SharedConfig()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// loaded keeps an image with a name in a world.
func (w *world) loaded(name, text string) api.Image {
	w.t.Helper()
	layout := imagetest.Layout(w.t, imagetest.Of([]imagetest.Entry{imagetest.File("text", text)}))
	all, err := w.LoadImage(w.t.Context(), imagetest.OpenFile(w.t, imagetest.LayoutTar(w.t, layout)), name)
	if err != nil {
		w.t.Fatal(err)
	}
	return all[0]
}

func TestAnInstanceWhoseImageIsGoneSaysSo(t *testing.T) {
	w := newWorld(t)
	one := w.loaded("img:1", "one")
	in := w.create(api.InstanceSpec{Handle: "web", Command: []string{"sleep"}, ImageRef: "img:1"})
	w.awaitPhase(in.ID, api.PhaseRunning)
	if _, err := w.Stop(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	if err := w.images.local.Remove(t.Context(), one.Digest, nil); err != nil { // behind aegisd's back
		t.Fatal(err)
	}
	two := w.loaded("img:1", "two")
	if _, err := w.Start(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	failed := w.awaitPhase("web", api.PhaseFailed)
	if !strings.Contains(failed.LastError, one.Digest) || !strings.Contains(failed.LastError, two.Digest) || failed.Digest != one.Digest {
		t.Errorf("%+v", failed)
	}
	w.loaded("img:1", "one") // it is back
	if _, err := w.Start(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	w.awaitPhase("web", api.PhaseRunning)
}

// An image of which a start has just found the disk must not go before the
// start has opened it.
func TestAnImageIsNotPrunedUnderAStart(t *testing.T) {
	w := newWorld(t)
	archive := imagetest.LayoutTar(t, imagetest.Layout(t, imagetest.Of([]imagetest.Entry{imagetest.File("text", "one")})))
	stop := make(chan struct{})
	var pruning sync.WaitGroup
	defer pruning.Wait()
	defer close(stop)
	pruning.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := w.PruneImages(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	for range 10 {
		_, err := w.LoadImage(t.Context(), imagetest.OpenFile(t, archive), "img:1")
		if err != nil && api.CodeOf(err) != api.NotFound { // pruned before it was told
			t.Fatal(err)
		}
		in := w.create(api.InstanceSpec{Command: []string{"sleep"}, ImageRef: "img:1", Pull: api.PullNever})
		got := w.await(in.ID, "a start", func(in api.Instance, _ error) bool {
			return in.Phase == api.PhaseRunning || in.Phase == api.PhaseFailed
		})
		if got.Phase == api.PhaseFailed && !strings.Contains(got.LastError, "is not here") {
			t.Errorf("%s", got.LastError)
		}
		if err := w.Delete(t.Context(), in.ID); err != nil {
			t.Error(err)
		}
	}
}

func TestARestartKnowsWhichImagesAreInUse(t *testing.T) {
	w := newWorld(t)
	one := w.loaded("img:1", "one")
	in := w.create(api.InstanceSpec{Handle: "web", Command: []string{"sleep"}, ImageRef: "img:1"})
	w.awaitPhase(in.ID, api.PhaseRunning)
	w.restart()
	if removed, err := w.PruneImages(t.Context()); err != nil || len(removed) != 0 {
		t.Errorf("prune: %+v, %v", removed, err)
	}
	if img, err := w.ImageInfo(t.Context(), one.Digest); err != nil || len(img.UsedBy) != 1 || img.UsedBy[0] != "web" {
		t.Errorf("%+v, %v", img, err)
	}
}
