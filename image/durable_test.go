package image_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/image"
	"github.com/xfeldman/aegisvm/image/imagetest"
	"github.com/xfeldman/aegisvm/image/registry"
)

// noise is an image of n random files of 100 KB, which takes a while.
func noise(n int) imagetest.Image {
	random := rand.NewChaCha8([32]byte{})
	var layer entries
	for i := range n {
		b := make([]byte, 100_000)
		random.Read(b)
		layer = append(layer, file(fmt.Sprintf("d%d/f%d", i%7, i), string(b)))
	}
	return imagetest.Of(layer)
}

// counter counts the builds that a store logs.
type counter struct {
	slog.Handler
	builds *atomic.Int32
}

func (c counter) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "image prepared" {
		c.builds.Add(1)
	}
	return nil
}
func (c counter) Enabled(context.Context, slog.Level) bool { return true }
func (c counter) WithAttrs([]slog.Attr) slog.Handler       { return c }

func TestCallersAndProcessesShareOneBuild(t *testing.T) {
	t.Parallel()
	dir, layout := t.TempDir(), imagetest.Layout(t, noise(50))
	var builds atomic.Int32
	opts := image.Options{Log: slog.New(counter{builds: &builds})}
	stores := []*image.Local{open(t, dir, opts), open(t, dir, opts)} // as two processes would
	var g errgroup.Group
	for i := range 12 {
		g.Go(func() error {
			_, err := stores[i%2].Prepare(t.Context(), layout, nil)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := builds.Load(); n != 1 {
		t.Errorf("%d builds, expected 1", n)
	}
}

func TestABuildThatIsGivenUpIsTakenOver(t *testing.T) {
	t.Parallel()
	dir, layout := t.TempDir(), imagetest.Layout(t, noise(50))
	s := open(t, dir, image.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	building := make(chan struct{}, 1000)
	first, second := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := s.Prepare(ctx, layout, func(p image.Progress) {
			if p.Stage == image.StageBuilding {
				building <- struct{}{}
			}
		})
		first <- err
	}()
	<-building
	go func() {
		_, err := s.Prepare(t.Context(), layout, nil)
		second <- err
	}()
	cancel()
	if err := <-first; err == nil {
		t.Log("the first build was faster than its end")
	}
	if err := <-second; err != nil {
		t.Errorf("the second caller: %v", err)
	}
	onlyImages(t, dir, 1)
}

// onlyImages fails unless the store holds n images and nothing unfinished.
func onlyImages(t *testing.T, dir string, n int) {
	t.Helper()
	left, err := os.ReadDir(filepath.Join(dir, "images"))
	if err != nil {
		t.Fatal(err)
	}
	images := 0
	for _, l := range left {
		if strings.HasPrefix(l.Name(), ".tmp-") {
			t.Errorf("left behind: %s", l.Name())
		} else if !strings.HasPrefix(l.Name(), ".") {
			images++
		}
	}
	if images != n {
		t.Errorf("%d images, expected %d", images, n)
	}
}

func TestTheSameImageMakesTheSameDisk(t *testing.T) {
	t.Parallel()
	var sums [2]string
	for i := range sums {
		f := build(t, noise(20))
		b := make([]byte, 4<<20)
		if _, err := f.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
		sums[i] = fmt.Sprintf("%x", sha256.Sum256(b))
	}
	if sums[0] != sums[1] {
		t.Error("two builds of one image differ")
	}
}

func TestUnfinishedWorkIsSweptAtOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open(t, dir, image.Options{}).Close()
	for _, name := range []string{"images/.tmp-1/disk.erofs", "disks/.tmp-2"} {
		os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700)
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	open(t, dir, image.Options{})
	for _, name := range []string{"images/.tmp-1", "disks/.tmp-2"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
}

func TestWorkOfAnotherProcessIsNotSwept(t *testing.T) {
	t.Parallel()
	dir, layout := t.TempDir(), imagetest.Layout(t, noise(50))
	s := open(t, dir, image.Options{})
	opened := make(chan error, 1)
	_, err := s.Prepare(t.Context(), layout, func(p image.Progress) {
		if p.Stage == image.StageBuilding && p.Done == p.Total && len(opened) == 0 {
			other, err := image.Open(dir, image.Options{})
			if err == nil {
				other.Close()
			}
			opened <- err
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Error(err)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: only root can mount and give files away")
	}
}

func TestAFullDiskIsToldAndNothingIsLeft(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=4m", "aegis-test", dir).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: this machine cannot mount tmpfs: %v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("umount", "-l", dir).Run() })
	r := serve(t, 6_000_000)
	s, err := image.Open(dir, image.Options{Registry: registry.Options{Config: r.Config(t)}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Prepare(t.Context(), imagetest.Layout(t, noise(100)), nil); api.CodeOf(err) != api.LimitExceeded || !strings.Contains(err.Error(), "free some space") {
		t.Errorf("prepare: %v", err)
	}
	onlyImages(t, dir, 0)
	if _, err := s.Pull(t.Context(), r.Host+"/img:1", "", nil); api.CodeOf(err) != api.LimitExceeded || !strings.Contains(err.Error(), "free some space") {
		t.Errorf("pull: %v", err)
	}
	if left := partials(t, dir); len(left) != 0 { // or the disk would stay full
		t.Errorf("left behind: %v", left)
	}
	created := 0
	for ; created < 1000; created++ {
		if err = s.CreateDisk(t.Context(), fmt.Sprintf("d%d", created), image.DiskSize); err != nil {
			break
		}
	}
	if api.CodeOf(err) != api.LimitExceeded {
		t.Errorf("create disk %d: %v", created, err)
	}
	ids, err := s.Disks(t.Context())
	if err != nil || len(ids) != created {
		t.Errorf("%d disks, expected %d: %v", len(ids), created, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "disks/.tmp-*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestAMissingProgramIsNamedWithItsPackage(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), image.Options{})
	s.WithoutMke2fs()
	if err := s.CreateDisk(t.Context(), "d", image.DiskSize); api.CodeOf(err) != api.Unavailable || !strings.Contains(err.Error(), "apt install e2fsprogs") {
		t.Errorf("create disk: %v", err)
	}
}

func TestADamagedStoreBuildsAnew(t *testing.T) {
	t.Parallel()
	dir, layout := t.TempDir(), imagetest.Layout(t, noise(1))
	s := open(t, dir, image.Options{})
	img, err := s.Prepare(t.Context(), layout, nil)
	if err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(dir, "images", img.Digest[len("sha256:"):])
	for name, damage := range map[string]func() error{
		"no disk": func() error { return os.Remove(filepath.Join(at, "disk.erofs")) },
		"a short one": func() error {
			os.Chmod(filepath.Join(at, "disk.erofs"), 0o600)
			return os.Truncate(filepath.Join(at, "disk.erofs"), 1)
		},
		"no meta": func() error { return os.Remove(filepath.Join(at, "meta.json")) },
		"a damaged meta": func() error {
			os.Remove(filepath.Join(at, "meta.json"))
			return os.WriteFile(filepath.Join(at, "meta.json"), []byte("{"), 0o600)
		},
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Prepare(t.Context(), layout, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	onlyImages(t, dir, 1)
}
