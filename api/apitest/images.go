package apitest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/image/imagetest"
)

// registry shares a registry with an image img:1 that has the text.
func (s suite) registry(text string) (r *imagetest.Registry, ref string) {
	s.Helper()
	r = imagetest.NewRegistry(s)
	r.Share(s)
	s.push(r, text)
	return r, r.Host + "/img:1"
}

func (s suite) push(r *imagetest.Registry, text string) {
	s.Helper()
	img := imagetest.Of([]imagetest.Entry{imagetest.File("text", text)})
	img.Config.Env, img.Config.Cmd, img.Config.WorkingDir, img.Config.User = []string{"TEXT=" + text}, []string{"a", "b c"}, "/srv", "app"
	r.Push(s, "img", "1", img)
}

func (s suite) wantNames(digest string, want ...string) {
	s.Helper()
	img, err := s.ImageInfo(s.Context(), digest)
	if err != nil || !cmp.Equal(want, img.Names) {
		s.Errorf("names: %v, %s", err, cmp.Diff(want, img.Names))
	}
}

func (s suite) images() {
	ctx := s.Context()
	_, ref := s.registry("one")
	if all, err := s.ListImages(ctx); err != nil || len(all) != 0 {
		s.Errorf("at first: %+v, %v", all, err)
	}
	var stages []string
	img, err := s.PullImage(ctx, ref, "", func(p api.ImageProgress) {
		if !slices.Contains(stages, p.Stage) {
			stages = append(stages, p.Stage)
		}
	})
	if err != nil {
		s.Fatal(err)
	}
	if diff := cmp.Diff([]string{"resolving", "downloading", "building", "ready"}, stages); diff != "" {
		s.Errorf("progress: %s", diff)
	}
	want := api.Image{
		Digest: img.Digest, Names: []string{ref}, Size: img.Size, PackedSize: img.PackedSize, Layers: 1, CreatedAt: img.CreatedAt,
		Env: []string{"TEXT=one"}, Command: []string{"a", "b c"}, Workdir: "/srv", User: "app",
	}
	if diff := cmp.Diff(want, img); diff != "" || img.Size == 0 || img.PackedSize == 0 || img.CreatedAt.IsZero() {
		s.Errorf("pulled: %+v %s", img, diff)
	}
	if all, err := s.ListImages(ctx); err != nil || !cmp.Equal([]api.Image{want}, all) {
		s.Errorf("list: %v %s", err, cmp.Diff([]api.Image{want}, all))
	}
	if _, err := s.TagImage(ctx, img.Digest, "mine"); err != nil {
		s.Fatal(err)
	}
	s.wantNames(ref, ref, "docker.io/library/mine:latest")
	saved := s.save("mine:latest")
	if err := s.RemoveImage(ctx, ref); err != nil {
		s.Fatal(err)
	}
	s.wantNames(img.Digest, "docker.io/library/mine:latest")
	if err := s.RemoveImage(ctx, "mine"); err != nil {
		s.Fatal(err)
	}
	_, err = s.ImageInfo(ctx, img.Digest)
	s.wantCode("info of a removed image", err, api.NotFound)
	s.loadAndPrune(saved, want)
}

// save writes an image to a file.
func (s suite) save(ref string) (path string) {
	s.Helper()
	path = filepath.Join(s.TempDir(), "saved.tar")
	f, err := os.Create(path)
	if err != nil {
		s.Fatal(err)
	}
	defer f.Close()
	if err := s.SaveImage(s.Context(), []string{ref}, f); err != nil {
		s.Fatal(err)
	}
	return path
}

func (s suite) loadAndPrune(saved string, want api.Image) {
	s.Helper()
	ctx := s.Context()
	f, err := os.Open(saved)
	if err != nil {
		s.Fatal(err)
	}
	defer f.Close()
	loaded, err := s.LoadImage(ctx, f, "again:2")
	if err != nil || len(loaded) != 1 {
		s.Fatalf("load: %+v, %v", loaded, err)
	}
	want.Names, want.CreatedAt = []string{"docker.io/library/again:2"}, loaded[0].CreatedAt
	if diff := cmp.Diff(want, loaded[0]); diff != "" {
		s.Errorf("loaded: %s", diff)
	}
	removed, err := s.PruneImages(ctx)
	if err != nil || len(removed) != 1 || removed[0].Digest != want.Digest {
		s.Errorf("prune: %+v, %v", removed, err)
	}
	if all, err := s.ListImages(ctx); err != nil || len(all) != 0 {
		s.Errorf("after prune: %+v, %v", all, err)
	}
}

// imageOnDemand starts an instance from a name, which then means something
// else.
func (s suite) imageOnDemand() {
	ctx := s.Context()
	r, ref := s.registry("one")
	in := s.create(api.InstanceSpec{Handle: "web", Command: []string{"sleep"}, ImageRef: ref})
	running := s.awaitPhase(in.ID, api.PhaseRunning)
	img, err := s.ImageInfo(ctx, ref)
	if err != nil || img.Digest != running.Digest || !cmp.Equal([]string{"web"}, img.UsedBy) {
		s.Errorf("image %+v, %v of instance %+v", img, err, running)
	}
	for _, name := range []string{ref, running.Digest} {
		err := s.RemoveImage(ctx, name)
		s.wantCode("remove in use", err, api.BadState)
		if !strings.Contains(err.Error(), "web") {
			s.Errorf("who uses it? %v", err)
		}
	}
	s.push(r, "two")
	if two, err := s.PullImage(ctx, ref, api.PullAlways, nil); err != nil || two.Digest == img.Digest {
		s.Errorf("pull of the new one: %+v, %v", two, err)
	}
	if removed, err := s.PruneImages(ctx); err != nil || len(removed) != 1 || removed[0].Digest == running.Digest {
		s.Errorf("prune: %+v, %v", removed, err)
	}
	if _, err := s.Stop(ctx, "web"); err != nil {
		s.Fatal(err)
	}
	if _, err := s.Start(ctx, "web"); err != nil {
		s.Fatal(err)
	}
	if again := s.awaitPhase("web", api.PhaseRunning); again.Digest != running.Digest {
		s.Errorf("started again with %s, first with %s", again.Digest, running.Digest)
	}
	if err := s.Delete(ctx, "web"); err != nil {
		s.Fatal(err)
	}
	if err := s.RemoveImage(ctx, running.Digest); err != nil {
		s.Errorf("remove of what nobody uses: %v", err)
	}
}

func (s suite) imageRefusals() {
	ctx := s.Context()
	r, ref := s.registry("one")
	for name, c := range map[string]struct {
		spec api.InstanceSpec
		code api.Code
		word string
	}{
		"never and not here": {api.InstanceSpec{ImageRef: ref, Pull: api.PullNever}, api.NotFound, "not here"},
		"no such tag":        {api.InstanceSpec{ImageRef: r.Host + "/img:2"}, api.NotFound, "check the name"},
		"no such host":       {api.InstanceSpec{ImageRef: "registry.invalid/img"}, api.Unavailable, "not known"},
	} {
		spec := c.spec
		spec.Command, spec.Attach, spec.AutoRemove = []string{"echo"}, true, true
		in := s.create(spec)
		_, err := s.Attach(ctx, in.ID)
		s.wantCode(name, err, c.code)
		if err == nil || !strings.Contains(err.Error(), c.word) {
			s.Errorf("%s: %v", name, err)
		}
		s.awaitGone(in.ID)
	}
	_, err := s.Create(ctx, api.Caller{}, api.InstanceSpec{Command: []string{"echo"}, Pull: "sometimes"})
	s.wantCode("an odd policy", err, api.InvalidArgument)
	_, err = s.PullImage(ctx, "Not A Name", "", nil)
	s.wantCode("pull of no name", err, api.InvalidArgument)
	_, err = s.PullImage(ctx, r.Host+"/img:2", "", nil)
	s.wantCode("pull of no tag", err, api.NotFound)
	_, err = s.ImageInfo(ctx, "nosuch")
	s.wantCode("info", err, api.NotFound)
	_, err = s.TagImage(ctx, "nosuch", "x")
	s.wantCode("tag", err, api.NotFound)
	s.wantCode("remove", s.RemoveImage(ctx, "a/b/c:d"), api.NotFound)
	s.wantCode("save to a file", s.SaveImage(ctx, []string{"nosuch"}, s.file("")), api.NotFound)
	s.wantCode("save nothing", s.SaveImage(ctx, nil, s.file("")), api.InvalidArgument)
	_, err = s.LoadImage(ctx, s.file("no archive"), "")
	s.wantCode("load of no archive", err, api.InvalidArgument)
	_, err = s.LoadImage(ctx, s.file(""), "")
	s.wantCode("load of nothing", err, api.InvalidArgument)
}

// file is an open file with a text.
func (s suite) file(text string) *os.File {
	s.Helper()
	path := filepath.Join(s.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { f.Close() })
	return f
}
