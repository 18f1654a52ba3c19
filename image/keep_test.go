package image_test

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/image"
	"github.com/xfeldman/aegisvm/image/imagetest"
)

// blobs counts what the store keeps beside the disks.
func blobs(t *testing.T, dir string) int {
	t.Helper()
	all, err := os.ReadDir(filepath.Join(dir, "oci/blobs/sha256"))
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// allNames are the names of all images of a store.
func allNames(t *testing.T, s image.Store) []string {
	t.Helper()
	all, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, info := range all {
		names = append(names, strings.Join(info.Names, " "))
	}
	return names
}

func TestANameMovesToTheNewImage(t *testing.T) {
	t.Parallel()
	r := imagetest.NewRegistry(t)
	s, _ := pulling(t, r)
	ref := r.Host + "/img:1"
	r.Push(t, "img", "1", layers(1))
	one := pull(t, s, ref, "")
	r.Push(t, "img", "1", layers(2))
	two := pull(t, s, ref, api.PullAlways)
	if got := allNames(t, s); !slices.Equal(got, []string{"", ref}) {
		t.Errorf("%q", got)
	}
	if info, err := s.Info(t.Context(), one.Digest); err != nil || len(info.Names) != 0 || info.Layers != 1 || info.Packed == 0 {
		t.Errorf("the old one: %+v, %v", info, err)
	}
	if _, err := s.Tag(t.Context(), one.Digest, ref); err != nil { // and back
		t.Fatal(err)
	}
	if info, err := s.Info(t.Context(), ref); err != nil || info.Digest != one.Digest {
		t.Errorf("%+v, %v", info, err)
	}
	for _, name := range []string{"Bad Name", "x@" + two.Digest, ""} {
		if _, err := s.Tag(t.Context(), ref, name); api.CodeOf(err) != api.InvalidArgument {
			t.Errorf("tag %q: %v", name, err)
		}
	}
}

func TestRemoveFreesWhatNobodyNeeds(t *testing.T) {
	t.Parallel()
	r := imagetest.NewRegistry(t)
	s, dir := pulling(t, r)
	r.Push(t, "img", "1", layers(1))
	r.Push(t, "img", "3", layers(3)) // shares the first layer
	one, three := pull(t, s, r.Host+"/img:1", ""), pull(t, s, r.Host+"/img:3", "")
	if n := blobs(t, dir); n != 3+4 {
		t.Errorf("%d blobs", n)
	}
	err := s.Remove(t.Context(), r.Host+"/img:3", []string{one.Digest, three.Digest})
	if api.CodeOf(err) != api.BadState || !strings.Contains(err.Error(), "in use") {
		t.Errorf("remove of what is in use: %v", err)
	}
	if err := s.Remove(t.Context(), r.Host+"/img:3", []string{one.Digest}); err != nil {
		t.Fatal(err)
	}
	onlyImages(t, dir, 1)
	if n := blobs(t, dir); n != 3 {
		t.Errorf("%d blobs of one image", n)
	}
	if _, err := s.Open(t.Context(), three.Digest); api.CodeOf(err) != api.NotFound {
		t.Errorf("the disk: %v", err)
	}
	if err := s.Remove(t.Context(), one.Digest, nil); err != nil {
		t.Fatal(err)
	}
	if n := blobs(t, dir); n != 0 {
		t.Errorf("%d blobs of nothing", n)
	}
	for _, ref := range []string{r.Host + "/img:1", one.Digest} {
		if err := s.Remove(t.Context(), ref, nil); api.CodeOf(err) != api.NotFound {
			t.Errorf("second remove of %s: %v", ref, err)
		}
	}
	for _, ref := range []string{"", "/path", "oci:/path", "sha256:12"} {
		if err := s.Remove(t.Context(), ref, nil); api.CodeOf(err) == api.NotFound || err == nil {
			t.Errorf("remove of %q: %v", ref, err)
		}
	}
}

func TestAnOpenDiskOutlivesItsImage(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), image.Options{})
	all := load(t, s, imagetest.LayoutTar(t, imagetest.Layout(t, imagetest.Of(entries{file("a", "1")}))), "mine")
	f, err := s.Open(t.Context(), all[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := s.Remove(t.Context(), "mine", nil); err != nil {
		t.Fatal(err)
	}
	if got := list(t, f); len(got) != 2 {
		t.Errorf("%q", got)
	}
}

func TestPruneKeepsTheBaseAndWhatIsInUse(t *testing.T) {
	t.Parallel()
	base := imagetest.Layout(t, imagetest.Of(entries{file("base", "")}))
	dir := t.TempDir()
	s := open(t, dir, image.Options{Base: base})
	baseImage, err := s.Prepare(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	byPath, err := s.Prepare(t.Context(), imagetest.Layout(t, imagetest.Of(entries{file("path", "")})), nil)
	if err != nil {
		t.Fatal(err)
	}
	load(t, s, imagetest.LayoutTar(t, imagetest.Layout(t, imagetest.Of(entries{file("gone", "")}))), "gone")
	used := load(t, s, imagetest.LayoutTar(t, imagetest.Layout(t, imagetest.Of(entries{file("used", "")}))), "used")
	removed, err := s.Prune(t.Context(), []string{used[0].Digest})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, info := range removed {
		got = append(got, info.Digest)
	}
	if len(got) != 2 || !slices.Contains(got, byPath.Digest) || slices.Contains(got, baseImage.Digest) {
		t.Errorf("removed %q", got)
	}
	all, err := s.List(t.Context())
	if err != nil || len(all) != 2 || !all[0].Base || all[1].Names[0] != "docker.io/library/used:latest" {
		t.Errorf("left: %+v, %v", all, err)
	}
	if n := blobs(t, dir); n != 3 {
		t.Errorf("%d blobs", n)
	}
}

func TestANameOfTheBaseImageGoesAndItsDiskStays(t *testing.T) {
	t.Parallel()
	base := imagetest.Layout(t, imagetest.Of(entries{file("base", "")}))
	dir := t.TempDir()
	s := open(t, dir, image.Options{Base: base})
	img, err := s.Prepare(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	load(t, s, imagetest.LayoutTar(t, base), "mine")
	if err := s.Remove(t.Context(), "mine", []string{img.Digest}); err != nil {
		t.Fatal(err)
	}
	all, err := s.List(t.Context())
	if err != nil || len(all) != 1 || !all[0].Base || len(all[0].Names) != 0 {
		t.Errorf("left: %+v, %v", all, err)
	}
	if n := blobs(t, dir); n != 0 {
		t.Errorf("%d blobs", n)
	}
	if f, err := s.Open(t.Context(), img.Digest); err != nil {
		t.Error(err)
	} else {
		f.Close()
	}
}

func TestOfAnImageFromAPathThereIsButTheDisk(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), image.Options{})
	img, err := s.Prepare(t.Context(), imagetest.Layout(t, imagetest.Of(entries{file("a", "")})), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Tag(t.Context(), img.Digest, "mine")
	if api.CodeOf(err) != api.BadState || !strings.Contains(err.Error(), "aegis image load") {
		t.Errorf("tag: %v", err)
	}
	if info, err := s.Info(t.Context(), img.Digest); err != nil || info.Packed != 0 || info.Prepared.IsZero() {
		t.Errorf("info: %+v, %v", info, err)
	}
}

func TestALostDiskIsMadeAnew(t *testing.T) {
	t.Parallel()
	r := imagetest.NewRegistry(t)
	s, dir := pulling(t, r)
	r.Push(t, "img", "1", layers(2))
	img := pull(t, s, r.Host+"/img:1", "")
	r.Requests("")
	for _, ref := range []string{r.Host + "/img:1", img.Digest} {
		if err := os.RemoveAll(filepath.Join(dir, "images", img.Digest[len("sha256:"):])); err != nil {
			t.Fatal(err)
		}
		if all, err := s.List(t.Context()); err != nil || len(all) != 1 || all[0].Names[0] != r.Host+"/img:1" {
			t.Errorf("list: %+v, %v", all, err)
		}
		again, err := s.Prepare(t.Context(), ref, nil)
		again.Ref = img.Ref
		if diff := cmp.Diff(img, again); diff != "" || err != nil {
			t.Errorf("%s: %v %s", ref, err, diff)
		}
	}
	if asked := r.Requests(""); len(asked) != 0 {
		t.Errorf("the registry was asked: %q", asked)
	}
}

// What a pull has brought has no name yet: nothing may collect it.
func TestNothingIsCollectedFromAPull(t *testing.T) {
	t.Parallel()
	r := imagetest.NewRegistry(t)
	s, dir := pulling(t, r)
	other := open(t, dir, image.Options{}) // as another process
	load(t, s, imagetest.LayoutTar(t, imagetest.Layout(t, imagetest.Of(entries{file("a", "")}))), "mine")
	r.Push(t, "img", "1", layers(6))
	pruned := make(chan error, 1)
	done := false
	r.Intercept(func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		next.ServeHTTP(w, req)
		if strings.Contains(req.URL.Path, "/blobs/") && !done {
			done = true // the configuration, which comes before the layers
			_, err := s.Prune(t.Context(), nil)
			if err == nil {
				_, err = other.Prune(t.Context(), nil)
			}
			pruned <- err
		}
	})
	pull(t, s, r.Host+"/img:1", "")
	if err := <-pruned; err != nil {
		t.Error(err)
	}
	if got := allNames(t, s); !slices.Equal(got, []string{r.Host + "/img:1"}) {
		t.Errorf("%q", got)
	}
	if _, err := s.Prune(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if n := blobs(t, dir); n != 0 {
		t.Errorf("%d blobs after the last prune", n)
	}
}

func TestADamagedManifestKeepsTheBlobsOfOthers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, image.Options{})
	one := load(t, s, imagetest.LayoutTar(t, imagetest.Layout(t, imagetest.Of(entries{file("one", "")}))), "one")
	load(t, s, imagetest.LayoutTar(t, imagetest.Layout(t, imagetest.Of(entries{file("two", "")}))), "two")
	path := filepath.Join(dir, "oci/blobs/sha256", one[0].Digest[len("sha256:"):])
	flip(t, path)
	if err := s.Remove(t.Context(), "two", nil); err != nil {
		t.Errorf("remove of the other: %v", err)
	}
	if err := s.Remove(t.Context(), "one", nil); err != nil {
		t.Errorf("remove of the damaged one: %v", err)
	}
	if n := blobs(t, dir); n != 0 {
		t.Errorf("%d blobs", n)
	}
}
