package imagetest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/image"
)

// Contract holds a store against what image.Store promises. open makes an
// empty store whose base image is the given layout.
func Contract(t *testing.T, open func(t *testing.T, base string) image.Store) {
	for name, test := range map[string]func(t *testing.T, s image.Store, base string){
		"the empty reference is the base image":           testBase,
		"progress ends with ready":                        testProgress,
		"a prepared disk opens read-only":                 testOpen,
		"a digest is a reference once it is prepared":     testDigest,
		"references that lead nowhere are refused":        testBadRefs,
		"many callers prepare one image at once":          testTogether,
		"a caller that gives up gets the context's error": testCancel,
		"a writable disk lives from create to delete":     testDisk,
		"disk names are checked":                          testDiskNames,
		"disks have the size that was asked for":          testDiskSizes,
		"one of many creators of a disk wins":             testCreators,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := Layout(t, baseImage())
			test(t, open(t, base), base)
		})
	}
}

func baseImage() Image {
	img := Of([]Entry{Dir("etc"), File("etc/motd", "hello\n"), Symlink("motd", "etc/motd")})
	img.Config = ocispec.ImageConfig{
		Env: []string{"PATH=/bin"}, Entrypoint: []string{"/init"}, Cmd: []string{"a", "b"},
		WorkingDir: "/srv", User: "1000:1000",
	}
	return img
}

func prepare(t *testing.T, s image.Store, ref string) image.Image {
	t.Helper()
	img, err := s.Prepare(t.Context(), ref, nil)
	if err != nil {
		t.Fatalf("prepare %q: %v", ref, err)
	}
	return img
}

func testBase(t *testing.T, s image.Store, base string) {
	got := prepare(t, s, "")
	want := image.Image{Digest: got.Digest, Size: got.Size, Config: image.Config{
		Env: []string{"PATH=/bin"}, Entrypoint: []string{"/init"}, Cmd: []string{"a", "b"}, Workdir: "/srv", User: "1000:1000",
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got.Size <= 0 || got.Size > 1<<20 {
		t.Errorf("size %d of a tiny image", got.Size)
	}
	byPath := prepare(t, s, "oci:"+base)
	if byPath.Digest != got.Digest || byPath.Ref != "oci:"+base {
		t.Errorf("by path: %+v", byPath)
	}
	all, err := s.List(t.Context())
	if err != nil || len(all) != 1 || all[0].Digest != got.Digest {
		t.Errorf("list: %+v, %v", all, err)
	}
}

func testProgress(t *testing.T, s image.Store, _ string) {
	var told []image.Progress
	if _, err := s.Prepare(t.Context(), "", func(p image.Progress) { told = append(told, p) }); err != nil {
		t.Fatal(err)
	}
	var stages []string
	var done int64
	for _, p := range told {
		if len(stages) == 0 || stages[len(stages)-1] != p.Stage {
			stages, done = append(stages, p.Stage), 0
		}
		if p.Done < done || p.Done > p.Total {
			t.Errorf("%+v after %d", p, done)
		}
		done = p.Done
	}
	if diff := cmp.Diff([]string{"resolving", "building", "ready"}, stages); diff != "" {
		t.Error(diff)
	}
}

func testOpen(t *testing.T, s image.Store, _ string) {
	f, err := s.Open(t.Context(), prepare(t, s, "").Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	checkSize(t, f)
	var magic [4]byte
	if _, err := f.ReadAt(magic[:], 1024); err != nil || binary.LittleEndian.Uint32(magic[:]) != 0xe0f5e1e2 {
		t.Errorf("no EROFS image: % x, %v", magic, err)
	}
	if _, err := f.WriteAt(magic[:], 0); err == nil {
		t.Error("the disk of an image can be written")
	}
}

func checkSize(t *testing.T, f *os.File) {
	t.Helper()
	if n, err := f.Seek(0, io.SeekEnd); err != nil || n != image.DiskSize {
		t.Errorf("disk of %d bytes, %v; expected %d", n, err, int64(image.DiskSize))
	}
}

func testDigest(t *testing.T, s image.Store, _ string) {
	img := prepare(t, s, "")
	again := prepare(t, s, img.Digest)
	img.Ref = img.Digest
	if diff := cmp.Diff(img, again); diff != "" {
		t.Error(diff)
	}
}

func testBadRefs(t *testing.T, s image.Store, base string) {
	for ref, want := range map[string]api.Code{
		"sha256:" + string(make([]byte, 64)): api.InvalidArgument,
		"sha256:1234":                        api.InvalidArgument,
		string(Digest(nil)):                  api.NotFound,
		"/no/such/layout":                    api.NotFound,
		"oci:relative/path":                  api.InvalidArgument,
		"oci:" + base + ":":                  api.InvalidArgument,
		"oci:" + base + ":no-such-tag":       api.InvalidArgument,
		"docker.io/library/debian:12":        api.NotFound,
		"debian":                             api.NotFound,
		"Debian":                             api.InvalidArgument,
		"debian:":                            api.InvalidArgument,
		"debian@sha256:12":                   api.InvalidArgument,
		"../debian":                          api.InvalidArgument,
		"localhost/../debian":                api.InvalidArgument,
		"localhost/a/../b":                   api.InvalidArgument,
		t.TempDir():                          api.InvalidArgument,
	} {
		_, err := s.Prepare(t.Context(), ref, nil)
		refused(t, ref, err, want)
	}
	for _, digest := range []string{"", "..", "sha256:../../etc/passwd", string(Digest([]byte("x")))} {
		f, err := s.Open(t.Context(), digest)
		if f != nil || err == nil {
			t.Errorf("open %q: %v, %v", digest, f, err)
		}
	}
}

// refused checks the code of an error and that it is one line.
func refused(t *testing.T, what string, err error, want api.Code) {
	t.Helper()
	if got := api.CodeOf(err); got != want {
		t.Errorf("%.80q: code %q, expected %q: %v", what, got, want, err)
	}
	if err != nil && len(err.Error()) > 1000 {
		t.Errorf("%.80q: message of %d bytes", what, len(err.Error()))
	}
	for _, c := range errString(err) {
		if c < ' ' {
			t.Errorf("%.80q: control character in %q", what, err)
		}
	}
}

func errString(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func testTogether(t *testing.T, s image.Store, _ string) {
	var g errgroup.Group
	for range 16 {
		g.Go(func() error {
			_, err := s.Prepare(t.Context(), "", nil)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	if all, err := s.List(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("list: %v, %v", all, err)
	}
}

func testCancel(t *testing.T, s image.Store, _ string) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Prepare(ctx, "", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("prepare: %v", err)
	}
	prepare(t, s, "")
}

func testDisk(t *testing.T, s image.Store, _ string) {
	ctx := t.Context()
	if err := s.CreateDisk(ctx, "one", image.DiskSize); err != nil {
		t.Fatal(err)
	}
	refused(t, "created twice", s.CreateDisk(ctx, "one", image.DiskSize), api.Exists)
	f, err := s.OpenDisk(ctx, "one")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	checkSize(t, f)
	var magic [2]byte
	if _, err := f.ReadAt(magic[:], 1024+56); err != nil || binary.LittleEndian.Uint16(magic[:]) != 0xef53 {
		t.Errorf("no ext4: % x, %v", magic, err)
	}
	if _, err := f.WriteAt([]byte("kept"), image.DiskSize-4096); err != nil {
		t.Errorf("write: %v", err)
	}
	if ids, err := s.Disks(ctx); err != nil || !cmp.Equal(ids, []string{"one"}) {
		t.Errorf("disks: %q, %v", ids, err)
	}
	for range 2 {
		if err := s.DeleteDisk(ctx, "one"); err != nil {
			t.Errorf("delete: %v", err)
		}
	}
	if ids, err := s.Disks(ctx); err != nil || len(ids) != 0 {
		t.Errorf("disks: %q, %v", ids, err)
	}
	_, err = s.OpenDisk(ctx, "one")
	refused(t, "deleted", err, api.NotFound)
}

func testDiskSizes(t *testing.T, s image.Store, _ string) {
	for name, size := range map[string]int64{"least": image.MinDisk, "odd": 300 << 20, "most": image.MaxDisk} {
		if err := s.CreateDisk(t.Context(), name, size); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		f, err := s.OpenDisk(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		// Blocks of 4096 bytes, counted in the superblock's two halves.
		var super [1024]byte
		if _, err := f.ReadAt(super[:], 1024); err != nil {
			t.Fatal(err)
		}
		blocks := int64(binary.LittleEndian.Uint32(super[4:])) | int64(binary.LittleEndian.Uint32(super[0x150:]))<<32
		if end, err := f.Seek(0, io.SeekEnd); err != nil || end != size || blocks*4096 != size {
			t.Errorf("%s: a file of %d bytes with %d blocks, %v; expected %d bytes", name, end, blocks, err, size)
		}
	}
	for _, size := range []int64{-1, 0, image.MinDisk - 1, image.MinDisk + 1, image.MaxDisk + 1<<20, math.MaxInt64} {
		refused(t, fmt.Sprint(size), s.CreateDisk(t.Context(), "refused", size), api.InvalidArgument)
	}
}

func testDiskNames(t *testing.T, s image.Store, _ string) {
	for _, id := range []string{"", ".", "..", "../x", "a/b", ".template", "a b", "a\x01", string(make([]byte, 64))} {
		refused(t, id, s.CreateDisk(t.Context(), id, image.DiskSize), api.InvalidArgument)
		refused(t, id, s.DeleteDisk(t.Context(), id), api.InvalidArgument)
		_, err := s.OpenDisk(t.Context(), id)
		refused(t, id, err, api.InvalidArgument)
	}
}

func testCreators(t *testing.T, s image.Store, _ string) {
	var g errgroup.Group
	won := make(chan bool, 8)
	for range cap(won) {
		g.Go(func() error {
			err := s.CreateDisk(t.Context(), "contested", image.DiskSize)
			won <- err == nil
			if api.CodeOf(err) == api.Exists {
				return nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	winners := 0
	for range cap(won) {
		if <-won {
			winners++
		}
	}
	if winners != 1 {
		t.Errorf("%d creators of one disk", winners)
	}
}
