package image_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/image"
	"github.com/xfeldman/aegisvm/image/imagetest"
)

func load(t *testing.T, s image.Store, archive []byte, name string) []image.Info {
	t.Helper()
	all, err := s.Load(t.Context(), imagetest.OpenFile(t, archive), name, nil)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// dockerArchive is what docker save wrote before it wrote OCI layouts: names
// to layers, which are tars; same names share a layer.
func dockerArchive(t *testing.T, names []string, layers ...[]byte) entries {
	t.Helper()
	config := ocispec.Image{Config: ocispec.ImageConfig{Cmd: []string{"sh"}}, Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}}
	var all entries
	var paths []string
	for _, l := range layers {
		sum := sha256.Sum256(l)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, imagetest.Digest(l))
		path := hex.EncodeToString(sum[:8]) + "/layer.tar"
		all, paths = append(all, file(path, string(l))), append(paths, path)
	}
	b, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	contents, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": names, "Layers": paths}})
	if err != nil {
		t.Fatal(err)
	}
	return append(all, file("config.json", string(b)), file("manifest.json", string(contents)))
}

func packed(t *testing.T, how string, b []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	var w io.WriteCloser = gzip.NewWriter(&buf)
	if how == "zstd" {
		z, err := zstd.NewWriter(&buf)
		if err != nil {
			t.Fatal(err)
		}
		w = z
	}
	w.Write(b)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestArchivesAreLoaded(t *testing.T) {
	t.Parallel()
	img := imagetest.Of(entries{file("a", "1")}, entries{file("b", "2")})
	img.Tag = "docker.io/library/one:1"
	layout := imagetest.LayoutTar(t, imagetest.Layout(t, img))
	one, two := imagetest.Tar(t, file("a", "1")), imagetest.Tar(t, file("b", "2"))
	docker := imagetest.Tar(t, dockerArchive(t, []string{"one:1"}, one, two)...)
	linked := dockerArchive(t, []string{"one:1"}, one, two)
	linked = append(linked, symlink("x/layer.tar", "../"+linked[0].Name))
	linked[3].Body = strings.Replace(linked[3].Body, linked[0].Name, "x/layer.tar", 1)
	linked[3].Size = int64(len(linked[3].Body))
	for name, archive := range map[string][]byte{
		"an OCI layout":                  layout,
		"an OCI layout in gzip":          packed(t, "gzip", layout),
		"an OCI layout in zstd":          packed(t, "zstd", layout),
		"an archive of Docker":           docker,
		"an archive of Docker in gzip":   packed(t, "gzip", docker),
		"one whose layers are in gzip":   imagetest.Tar(t, gzipped(t, dockerArchive(t, []string{"one:1"}, one, two))...),
		"one whose layer is a link away": imagetest.Tar(t, linked...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, t.TempDir(), image.Options{})
			all := load(t, s, archive, "")
			if len(all) != 1 || !slices.Equal(all[0].Names, []string{"docker.io/library/one:1"}) || all[0].Layers != 2 {
				t.Fatalf("%+v", all)
			}
			if diff := cmp.Diff([]string{".", "a", "b"}, names(t, s, all[0].Digest)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// gzipped packs the layers of an archive of Docker; its names stay.
func gzipped(t *testing.T, all entries) entries {
	for i, e := range all {
		if strings.HasSuffix(e.Name, "layer.tar") {
			all[i] = file(e.Name, string(packed(t, "gzip", []byte(e.Body))))
		}
	}
	return all
}

func TestADirectoryIsLoadedThroughItsDescriptor(t *testing.T) {
	t.Parallel()
	f, err := os.Open(imagetest.Layout(t, imagetest.Of(entries{file("a", "1")})))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := open(t, t.TempDir(), image.Options{})
	all, err := s.Load(t.Context(), f, "mine:1", nil)
	if err != nil || len(all) != 1 || all[0].Names[0] != "docker.io/library/mine:1" {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestNamesOfLoadedImages(t *testing.T) {
	t.Parallel()
	one, two := imagetest.Of(entries{file("one", "")}), imagetest.Of(entries{file("two", "")})
	one.Tag, two.Tag = "latest", "host.example/x/two:2" // the first tells no name
	archive := imagetest.LayoutTar(t, imagetest.Layout(t, one, two))
	s := open(t, t.TempDir(), image.Options{})
	var got [][]string
	for _, info := range load(t, s, archive, "") {
		got = append(got, info.Names)
	}
	if diff := cmp.Diff([][]string{nil, {"host.example/x/two:2"}}, got); diff != "" {
		t.Error(diff)
	}
	_, err := s.Load(t.Context(), imagetest.OpenFile(t, archive), "mine", nil)
	if api.CodeOf(err) != api.InvalidArgument || !strings.Contains(err.Error(), "several images") {
		t.Errorf("one name for two images: %v", err)
	}
	for _, name := range []string{"Not a name", "mine@" + string(imagetest.Digest(nil))} {
		if _, err := s.Load(t.Context(), imagetest.OpenFile(t, archive), name, nil); api.CodeOf(err) != api.InvalidArgument {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestWhatIsSavedCanBeLoaded(t *testing.T) {
	t.Parallel()
	r := imagetest.NewRegistry(t)
	d := r.Push(t, "img", "1", layers(3))
	first, _ := pulling(t, r)
	pull(t, first, r.Host+"/img:1", "")
	if _, err := first.Tag(t.Context(), r.Host+"/img:1", "second"); err != nil {
		t.Fatal(err)
	}
	save := func(refs ...string) []byte {
		t.Helper()
		f, err := os.Create(filepath.Join(t.TempDir(), "saved"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := first.Save(t.Context(), refs, f); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	saved := save(r.Host+"/img:1", "second")
	if !bytes.Equal(saved, save(r.Host+"/img:1", "second")) {
		t.Error("the same images were saved as other bytes")
	}
	s := open(t, t.TempDir(), image.Options{})
	all := load(t, s, saved, "")
	want := []string{r.Host + "/img:1", "docker.io/library/second:latest"}
	slices.Sort(want)
	if len(all) != 1 || all[0].Digest != string(d.Digest) || !cmp.Equal(want, all[0].Names) {
		t.Errorf("%+v", all)
	}
	if n := strings.Count(string(saved), string(d.Digest.Encoded())+"\x00"); n != 1 {
		t.Errorf("the manifest is there %d times", n)
	}
}

func TestPipesThatNobodyFillsOrEmpties(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), image.Options{})
	load(t, s, imagetest.LayoutTar(t, imagetest.Layout(t, noise(20))), "mine")
	for name, work := range map[string]func(context.Context, *os.File, *os.File) error{
		"loading": func(ctx context.Context, r, _ *os.File) error {
			_, err := s.Load(ctx, r, "", nil)
			return err
		},
		"saving": func(ctx context.Context, _, w *os.File) error { return s.Save(ctx, []string{"mine"}, w) },
	} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- work(ctx, r, w) }()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
		r.Close()
		w.Close()
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	if err := s.Save(t.Context(), []string{"mine"}, w); err == nil {
		t.Error("saved to nobody")
	}
	if err := s.Save(t.Context(), []string{"mine"}, nil); api.CodeOf(err) != api.InvalidArgument {
		t.Errorf("saved to nothing: %v", err)
	}
}

func TestHostileArchivesAreRefused(t *testing.T) {
	ok := dockerArchive(t, []string{"one:1"}, imagetest.Tar(t, file("a", "1")))
	with := func(more ...imagetest.Entry) entries { return append(slices.Clone(more), ok...) }
	contents := func(text string) entries { return append(slices.Clone(ok[:2]), file("manifest.json", text)) }
	var crowd entries
	for i := range 5000 {
		crowd = append(crowd, file(strings.Repeat("x", 1+i%9)+"/"+string(rune('a'+i%26))+strings.Repeat("y", i/200)+strings.Repeat("z", i%200), ""))
	}
	for name, test := range map[string]struct {
		archive entries
		code    api.Code
		message string
	}{
		"a name that climbs out":         {with(file("../canary", "dead")), api.InvalidArgument, "expected a path inside"},
		"an absolute name":               {with(file("/etc/passwd", "dead")), api.InvalidArgument, "expected a path inside"},
		"a device":                       {with(imagetest.Entry{Header: tar.Header{Typeflag: tar.TypeBlock, Name: "sda"}}), api.InvalidArgument, "expected files"},
		"a pipe":                         {with(imagetest.Entry{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "p"}}), api.InvalidArgument, "expected files"},
		"a file twice":                   {with(ok[0]), api.InvalidArgument, "twice"},
		"too many entries":               {crowd, api.LimitExceeded, "more than 4096 entries"},
		"nothing":                        {nil, api.InvalidArgument, "no images"},
		"no images":                      {entries{file("README", "x")}, api.InvalidArgument, "no images"},
		"contents that are no JSON":      {contents("{"), api.InvalidArgument, "no valid JSON"},
		"contents of nothing":            {contents("[]"), api.InvalidArgument, "holds no image"},
		"a configuration outside":        {contents(`[{"Config":"../../etc/passwd","Layers":[]}]`), api.InvalidArgument, "which its manifest.json names"},
		"no configuration":               {contents(`[{"Layers":[]}]`), api.InvalidArgument, "which its manifest.json names"},
		"a layer outside":                {contents(`[{"Config":"config.json","Layers":["/etc/passwd"]}]`), api.InvalidArgument, "which its manifest.json names"},
		"more layers than are told":      {contents(`[{"Config":"config.json","Layers":["config.json","config.json"]}]`), api.InvalidArgument, "has 2 layers"},
		"a layer that is no layer":       {contents(`[{"Config":"config.json","Layers":["config.json"]}]`), api.InvalidArgument, "damaged"},
		"a layer that links to itself":   {append(contents(`[{"Config":"config.json","Layers":["loop"]}]`), symlink("loop", "loop")), api.InvalidArgument, "which its manifest.json names"},
		"layers that link in a ring":     {append(contents(`[{"Config":"config.json","Layers":["x"]}]`), symlink("x", "y"), symlink("y", "x")), api.InvalidArgument, "which its manifest.json names"},
		"a layer that links to the host": {append(contents(`[{"Config":"config.json","Layers":["x"]}]`), symlink("x", "../../../../etc/passwd")), api.InvalidArgument, "which its manifest.json names"},
		"a hundred images":               {contents("[" + strings.Repeat(`{"Config":"config.json","Layers":["`+ok[0].Name+`"]},`, 99) + `{"Config":"config.json","Layers":[]}]`), api.LimitExceeded, "at most 64"},
		"a thousand layers":              {contents(`[{"Config":"config.json","Layers":["a"` + strings.Repeat(`,"a"`, 999) + "]}]"), api.LimitExceeded, "has 1000 layers"},
		"a layout without its blobs":     {entries{file("index.json", `{"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"`+string(imagetest.Digest(nil))+`","size":2}]}`)}, api.InvalidArgument, "not among the blobs"},
		"a layout of endless digests":    {entries{file("index.json", `{"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:../../../etc/passwd","size":2}]}`)}, api.InvalidArgument, "expected sha256: and 64"},
		"a layout with a strange type":   {entries{file("index.json", `{"manifests":[{"mediaType":"text/html","digest":"`+string(imagetest.Digest(nil))+`","size":2}]}`)}, api.InvalidArgument, "media type"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			entering := func(t *testing.T, s *image.Local, _ string) error {
				_, err := s.Load(t.Context(), imagetest.OpenFile(t, imagetest.Tar(t, test.archive...)), "", nil)
				return err
			}
			refuseAt(t, entering, "", image.Options{}, test.code, test.message)
		})
	}
}

func TestArchivesThatGrowAreRefused(t *testing.T) {
	bomb := packed(t, "zstd", make([]byte, 8<<20))
	for name, archive := range map[string][]byte{
		"a bomb": bomb, "a large file": make([]byte, 2<<20),
		"a cut compression": packed(t, "gzip", make([]byte, 1<<20))[:500],
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, message := api.LimitExceeded, "more than 1048576 bytes"
			if name == "a cut compression" {
				code, message = api.InvalidArgument, "damaged"
			}
			entering := func(t *testing.T, s *image.Local, _ string) error {
				_, err := s.Load(t.Context(), imagetest.OpenFile(t, archive), "", nil)
				return err
			}
			refuseAt(t, entering, "", image.Options{Limits: image.Limits{Packed: 1 << 20}}, code, message)
		})
	}
}
