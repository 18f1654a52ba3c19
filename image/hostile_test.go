package image_test

import (
	"archive/tar"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/image"
	"github.com/xfeldman/aegisvm/image/imagetest"
	"github.com/xfeldman/aegisvm/image/registry"
)

// door is a way for an image to come in.
type door func(t *testing.T, s *image.Local, layout string) error

func preparing(t *testing.T, s *image.Local, layout string) error {
	_, err := s.Prepare(t.Context(), layout, nil)
	return err
}

func loading(t *testing.T, s *image.Local, layout string) error {
	_, err := s.Load(t.Context(), imagetest.OpenFile(t, imagetest.LayoutTar(t, layout)), "", nil)
	return err
}

// refuse tries to prepare a layout that must be refused.
func refuse(t *testing.T, layout string, limits image.Limits, code api.Code, message string) {
	t.Helper()
	refuseAt(t, preparing, layout, image.Options{Limits: limits}, code, message)
}

// refuseEverywhere tries to bring a layout in through every door.
func refuseEverywhere(t *testing.T, layout string, limits image.Limits, code api.Code, message string) {
	t.Helper()
	refuse(t, layout, limits, code, message)
	refuseAt(t, loading, layout, image.Options{Limits: limits}, code, message)
	refusePulled(t, layout, limits, code, message)
}

// refusePulled tries to pull a layout from a registry that serves it as it is.
func refusePulled(t *testing.T, layout string, limits image.Limits, code api.Code, message string) {
	t.Helper()
	r := imagetest.ServeLayout(t, layout)
	pulling := func(t *testing.T, s *image.Local, _ string) error {
		_, err := s.Pull(t.Context(), r.Host+"/img:1", "", nil)
		return err
	}
	refuseAt(t, pulling, layout, image.Options{Limits: limits, Registry: registry.Options{Config: r.Config(t)}}, code, message)
}

// refuseAt tries one door, and checks that nothing is left of the image and
// nothing beside the store was touched.
func refuseAt(t *testing.T, enter door, layout string, opts image.Options, code api.Code, message string) {
	t.Helper()
	parent := t.TempDir()
	canaries := plantCanaries(t, parent)
	store := filepath.Join(parent, "store")
	s := open(t, store, opts)
	err := enter(t, s, layout)
	if api.CodeOf(err) != code || !strings.Contains(fmt.Sprint(err), message) {
		t.Errorf("got %q: %v\nexpected %q with %q", api.CodeOf(err), err, code, message)
	}
	if err != nil && (strings.ContainsAny(err.Error(), "\n\r\x00\x1b") || len(err.Error()) > 1000) {
		t.Errorf("the message is not one clean line: %q", err)
	}
	if all, err := s.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("listed: %+v, %v", all, err)
	}
	canaries(t)
	nothingLeft(t, store)
}

// plantCanaries plants a tree around where a store will be, and returns what
// checks that it is as it was.
func plantCanaries(t *testing.T, parent string) (check func(t *testing.T)) {
	t.Helper()
	for _, name := range []string{"canary", "a", "etc/passwd", "etc/hostname", "d/f", "blobs/sha256/x"} {
		path := filepath.Join(parent, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("alive "+name), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("canary", filepath.Join(parent, "link")); err != nil {
		t.Fatal(err)
	}
	before := census(t, parent)
	return func(t *testing.T) {
		t.Helper()
		if diff := cmp.Diff(before, census(t, parent)); diff != "" {
			t.Errorf("around the store: %s", diff)
		}
	}
}

// census describes every file below dir but those of the store.
func census(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if p == filepath.Join(dir, "store") {
			return fs.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if p == dir {
			return nil
		}
		text := ""
		if info.Mode().IsRegular() {
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			text = string(b)
		}
		all = append(all, fmt.Sprintf("%s %s %s %q", p, info.Mode(), info.ModTime(), text))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// nothingLeft fails if the store holds more than locks.
func nothingLeft(t *testing.T, store string) {
	t.Helper()
	left, err := os.ReadDir(filepath.Join(store, "images"))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range left {
		if !strings.HasPrefix(l.Name(), ".lock-") {
			t.Errorf("left behind: %s", l.Name())
		}
	}
	if begun := partials(t, store); len(begun) > 0 {
		t.Errorf("downloads left behind: %v", begun)
	}
}

func TestHostileLayersAreRefused(t *testing.T) {
	chain := entries{}
	for i := range 60 {
		chain = append(chain, symlink(fmt.Sprintf("l%d", i), fmt.Sprintf("l%d", i+1)))
	}
	for name, test := range map[string]struct {
		layer   entries
		limits  image.Limits
		code    api.Code
		message string
	}{
		"a name that climbs out":         {entries{file("../../canary", "dead")}, image.Limits{}, api.InvalidArgument, `holds ".."`},
		"a name that climbs within":      {entries{file("a/../canary", "dead")}, image.Limits{}, api.InvalidArgument, `holds ".."`},
		"a hard link that climbs out":    {entries{link("a", "../../canary")}, image.Limits{}, api.InvalidArgument, `holds ".."`},
		"a hard link to a host path":     {entries{link("a", "/etc/hostname")}, image.Limits{}, api.InvalidArgument, "no file of the image"},
		"a hard link to a directory":     {entries{dir("d"), link("a", "d")}, image.Limits{}, api.InvalidArgument, "no file of the image"},
		"a hard link to the root":        {entries{link("a", "/")}, image.Limits{}, api.InvalidArgument, "root"},
		"a hard link through a loop":     {entries{symlink("l", "l"), link("a", "l/x")}, image.Limits{}, api.LimitExceeded, "symbolic links"},
		"a file below a file":            {entries{file("a", "1"), file("a/b", "2")}, image.Limits{}, api.InvalidArgument, "no directory"},
		"a file below a device":          {entries{{Header: tar.Header{Typeflag: tar.TypeChar, Name: "n"}}, file("n/b", "2")}, image.Limits{}, api.InvalidArgument, "no directory"},
		"links in a loop":                {entries{symlink("a", "b"), symlink("b", "a"), file("a/x", "1")}, image.Limits{}, api.LimitExceeded, "symbolic links"},
		"links in a long chain":          {append(chain, file("l0/x", "1")), image.Limits{}, api.LimitExceeded, "symbolic links"},
		"a link to nothing":              {entries{symlink("a", "")}, image.Limits{}, api.InvalidArgument, "symbolic link"},
		"a whiteout of the parent":       {entries{dir("d"), file("d/.wh...", "")}, image.Limits{}, api.InvalidArgument, "whiteout of nothing"},
		"a whiteout of nothing":          {entries{file(".wh.", "")}, image.Limits{}, api.InvalidArgument, "whiteout of nothing"},
		"a root that is a file":          {entries{symlink("./", "x")}, image.Limits{}, api.InvalidArgument, "root"},
		"a name that is too long":        {entries{file(strings.Repeat("n", 256), "")}, image.Limits{}, api.LimitExceeded, "256 bytes"},
		"a path that is too deep":        {entries{file(strings.Repeat("d/", 300)+"f", "")}, image.Limits{}, api.LimitExceeded, "directories deep"},
		"a path that is too long":        {entries{file(strings.Repeat(strings.Repeat("d", 200)+"/", 30)+"f", "")}, image.Limits{}, api.LimitExceeded, "directories deep"},
		"a device that cannot be":        {entries{{Header: tar.Header{Typeflag: tar.TypeChar, Name: "n", Devmajor: 5000, Format: tar.FormatGNU}}}, image.Limits{}, api.InvalidArgument, "device 5000:0"},
		"an owner that cannot be":        {entries{file("a", "").With(func(h *tar.Header) { h.Uid = 1 << 33 })}, image.Limits{}, api.InvalidArgument, "owner"},
		"a negative owner":               {entries{file("a", "").With(func(h *tar.Header) { h.Gid, h.Format = -1, tar.FormatGNU })}, image.Limits{}, api.InvalidArgument, "owner"},
		"too many attributes":            {entries{file("a", "").Xattr("user.a", strings.Repeat("x", 50<<10)).Xattr("user.b", strings.Repeat("x", 50<<10))}, image.Limits{}, api.LimitExceeded, "extended attributes"},
		"an unknown type":                {entries{{Header: tar.Header{Typeflag: 'Z', Name: "z"}}}, image.Limits{}, api.InvalidArgument, "type 'Z'"},
		"more files than allowed":        {entries{file("a", ""), file("b", ""), file("c", "")}, image.Limits{Files: 2}, api.LimitExceeded, "more than 2 files"},
		"more implied files than wanted": {entries{file("a/b/c", "")}, image.Limits{Files: 2}, api.LimitExceeded, "more than 2 files"},
		"more whiteouts than allowed":    {entries{file(".wh.a", ""), file(".wh.b", ""), file(".wh..wh.plnk", "")}, image.Limits{Files: 3}, api.LimitExceeded, "more than 3 files and whiteouts"},
		"more opaque dirs than allowed":  {entries{file(".wh..wh..opq", ""), file(".wh..wh..opq", ""), file(".wh..wh..opq", "")}, image.Limits{Files: 3}, api.LimitExceeded, "more than 3 files and whiteouts"},
		"more content than allowed":      {entries{file("a", "12345")}, image.Limits{Bytes: 4}, api.LimitExceeded, "more than 4 bytes"},
		"more names than allowed":        {entries{file("abcdefgh", "")}, image.Limits{Metadata: 4}, api.LimitExceeded, "more than 4 bytes of names"},
		"a control character in a name":  {entries{file("\x1b[31m\n/..", "")}, image.Limits{}, api.InvalidArgument, `\x1b`},
		"a hard link through a link out": {entries{symlink("out", "../../.."), link("a", "out/canary")}, image.Limits{}, api.InvalidArgument, "no file of the image"},
		"a hard link to a link's target": {entries{symlink("s", "/etc/passwd"), link("a", "s/x")}, image.Limits{}, api.InvalidArgument, "no file of the image"},
		"a hard link before its target":  {entries{link("a", "b"), file("b", "")}, image.Limits{}, api.InvalidArgument, "no file of the image"},
		"a whiteout of the root":         {entries{file("..", "")}, image.Limits{}, api.InvalidArgument, `holds ".."`},
		"a device below a link out":      {entries{symlink("l", "/dev/null"), {Header: tar.Header{Typeflag: tar.TypeChar, Name: "l/x/../sda", Devmajor: 8}}}, image.Limits{}, api.InvalidArgument, `holds ".."`},
		"a negative minor number":        {entries{{Header: tar.Header{Typeflag: tar.TypeBlock, Name: "n", Devminor: 1 << 21, Format: tar.FormatGNU}}}, image.Limits{}, api.InvalidArgument, "device 0:2097152"},
		"a link with an endless target":  {entries{symlink("a", strings.Repeat("x/", 3000))}, image.Limits{}, api.InvalidArgument, "symbolic link"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refuseEverywhere(t, imagetest.Layout(t, imagetest.Of(entries{file("ok", "ok")}, test.layer)), test.limits, test.code, test.message)
		})
	}
}

// Each whiteout looked at each file once: 1,800 million times.
func TestManyWhiteoutsOfManyFilesAreContained(t *testing.T) {
	t.Parallel()
	const n = 30_000
	layer := entries{}
	for i := range n {
		layer = append(layer, file(fmt.Sprintf("d/f%d", i), ""))
	}
	for range n {
		layer = append(layer, file("d/.wh..wh..opq", ""), dir("d"), file(".wh.d", ""))
	}
	got := list(t, build(t, imagetest.Of(entries{file("d/below", "")}, layer)))
	if len(got) != n+2 { // the root and the directory, and nothing from below
		t.Errorf("%d files, %d expected", len(got), n+2)
	}
}

func TestBombsAreRefused(t *testing.T) {
	zeros := make([]byte, 70<<20)
	for name, test := range map[string]struct {
		layer   imagetest.Layer
		message string
	}{
		"a file of zeros in gzip": {imagetest.Layer{Compression: "gzip", Entries: entries{file("zeros", string(zeros))}}, "too many times"},
		"a file of zeros in zstd": {imagetest.Layer{Compression: "zstd", Entries: entries{file("zeros", string(zeros))}}, "too many times"},
		"padding after the end":   {imagetest.Layer{Compression: "zstd", Stream: append(imagetest.Tar(t, file("a", "")), zeros...)}, "too many times"},
		"a sparse file":           {imagetest.Layer{Stream: sparse(t, 1<<40)}, "more than"},
		"a smaller sparse file":   {imagetest.Layer{Stream: sparse(t, 8<<30)}, "too many times"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refuseEverywhere(t, imagetest.Layout(t, imagetest.Image{Layers: []imagetest.Layer{test.layer}}), image.Limits{}, api.LimitExceeded, test.message)
		})
	}
}

// sparse is a layer with one GNU sparse file that is all hole. The header is
// made by hand because the tar writer makes none.
func sparse(t *testing.T, size int64) []byte {
	t.Helper()
	stream := imagetest.Tar(t, file("hole", "").With(func(h *tar.Header) { h.Format = tar.FormatGNU }))
	h := stream[:512]
	number := func(at int, n int64) { // in base 256, in 12 bytes
		h[at] = 0x80
		binary.BigEndian.PutUint64(h[at+4:], uint64(n))
	}
	h[156] = tar.TypeGNUSparse
	number(386, size) // the only piece lies at the end
	number(398, 0)    // and is empty
	number(483, size)
	copy(h[148:], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return stream
}

func TestOtherImagesAreRefused(t *testing.T) {
	ok := imagetest.Of(entries{file("a", "")})
	other := ok
	other.Arch = "s390x"
	env := ok
	env.Config.Env = []string{"PATH"}
	many := imagetest.Of(make([]entries, 200)...)
	two, three := ok, imagetest.Of(entries{file("b", "")})
	two.Tag, three.Tag = "two", "three"
	for name, test := range map[string]struct {
		images  []imagetest.Image
		code    api.Code
		message string
	}{
		"for another architecture": {[]imagetest.Image{other}, api.InvalidArgument, "holds no image for linux/"},
		"with a bad environment":   {[]imagetest.Image{env}, api.InvalidArgument, "expected KEY=VALUE"},
		"with too many layers":     {[]imagetest.Image{many}, api.LimitExceeded, "has 200 layers"},
		"larger than allowed":      {[]imagetest.Image{ok}, api.LimitExceeded, "more than 100 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limits := image.Limits{}
			if name == "larger than allowed" {
				limits.Packed = 100
				refuseAt(t, loading, imagetest.Layout(t, test.images...), image.Options{Limits: limits}, test.code, test.message)
				refusePulled(t, imagetest.Layout(t, test.images...), limits, test.code, test.message)
				return
			}
			refuseEverywhere(t, imagetest.Layout(t, test.images...), limits, test.code, test.message)
		})
	}
	refuse(t, imagetest.Layout(t, two, three), image.Limits{}, api.InvalidArgument, `TAG of "two", "three"`)
}

func TestATagChoosesAndIndexesAreFollowed(t *testing.T) {
	t.Parallel()
	one, two, foreign := imagetest.Of(entries{file("one", "")}), imagetest.Of(entries{file("two", "")}), imagetest.Of(entries{file("x", "")})
	one.Tag, foreign.Arch = "one", "s390x"
	dir := t.TempDir()
	inner := imagetest.PutJSON(t, dir, ocispec.MediaTypeImageIndex, ocispec.Index{Manifests: []ocispec.Descriptor{
		imagetest.Put(t, dir, foreign), imagetest.Put(t, dir, two),
		{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("attestation"), Size: 1, Platform: &ocispec.Platform{OS: "unknown", Architecture: "unknown"}},
	}})
	inner.Annotations = map[string]string{ocispec.AnnotationRefName: "two"}
	imagetest.PutIndex(t, dir, ocispec.Index{Manifests: []ocispec.Descriptor{imagetest.Put(t, dir, one), inner}})
	s := open(t, t.TempDir(), image.Options{})
	for _, tag := range []string{"one", "two"} {
		img, err := s.Prepare(t.Context(), "oci:"+dir+":"+tag, nil)
		if err != nil {
			t.Fatal(err)
		}
		f, err := s.Open(t.Context(), img.Digest)
		if err != nil {
			t.Fatal(err)
		}
		if got := list(t, f); len(got) != 2 || !strings.HasPrefix(got[1], tag+" ") {
			t.Errorf("%s: %q", tag, got)
		}
		f.Close()
	}
}
