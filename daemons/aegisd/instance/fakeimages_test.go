package instance_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/image"
)

// images is an image store in a folder.
type images struct {
	dir string

	mu      sync.Mutex // guards the fields below
	disks   map[string]bool
	config  image.Config
	prepare func(ctx context.Context) error
	full    error
	image.Library
	local *image.Local
}

func newImages(t testing.TB) *images {
	i := &images{dir: t.TempDir(), disks: map[string]bool{}, local: library(t)}
	i.Library = i.local
	if err := os.WriteFile(filepath.Join(i.dir, "image"), make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	return i
}

func (i *images) set(f func(*images)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	f(i)
}

func (i *images) Prepare(ctx context.Context, ref string, progress func(image.Progress)) (image.Image, error) {
	i.mu.Lock()
	prepare, config := i.prepare, i.config
	i.mu.Unlock()
	if progress != nil {
		progress(image.Progress{Stage: "building", Done: 1, Total: 2})
	}
	if prepare != nil {
		if err := prepare(ctx); err != nil {
			return image.Image{}, err
		}
	}
	if ref != "" && ref != "sha256:00" {
		return i.local.Prepare(ctx, ref, progress)
	}
	return image.Image{Digest: "sha256:00", Config: config}, nil
}

func (i *images) Open(ctx context.Context, digest string) (*os.File, error) {
	if f, err := i.local.Open(ctx, digest); err == nil {
		return f, nil
	}
	return os.Open(filepath.Join(i.dir, "image"))
}

func (i *images) CreateDisk(_ context.Context, id string, _ int64) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.full != nil:
		return i.full
	case i.disks[id]:
		return api.Errorf(api.Exists, "disk %s is there", id)
	}
	i.disks[id] = true
	return os.WriteFile(filepath.Join(i.dir, id), make([]byte, 4096), 0o600)
}

func (i *images) OpenDisk(_ context.Context, id string) (*os.File, error) {
	return os.OpenFile(filepath.Join(i.dir, id), os.O_RDWR, 0)
}

func (i *images) DeleteDisk(_ context.Context, id string) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.disks, id)
	os.Remove(filepath.Join(i.dir, id))
	return nil
}

func (i *images) Disks(context.Context) ([]string, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	var all []string
	for d := range i.disks {
		all = append(all, d)
	}
	return all, nil
}
