package restapi_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/api/restapi"
)

// imaginative keeps no image but answers as if.
type imaginative struct {
	scripted
	loaded chan string // what came
}

var anImage = api.Image{Digest: "sha256:00", Names: []string{"a/b:c"}, Size: 1, CreatedAt: time.Unix(1, 0).UTC()}

func (*imaginative) ListImages(context.Context) ([]api.Image, error) { return nil, nil }
func (*imaginative) ImageInfo(_ context.Context, ref string) (api.Image, error) {
	if ref != "a/b:c@x" {
		return api.Image{}, api.Errorf(api.NotFound, "no %q", ref)
	}
	return anImage, nil
}

func (*imaginative) PullImage(ctx context.Context, ref string, policy api.PullPolicy, progress func(api.ImageProgress)) (api.Image, error) {
	switch ref {
	case "early":
		return api.Image{}, api.Errorf(api.Denied, "no")
	case "late":
		progress(api.ImageProgress{Stage: "resolving"})
		return api.Image{}, api.Errorf(api.Unavailable, "cut off")
	case "never":
		progress(api.ImageProgress{Stage: "resolving"})
		<-ctx.Done()
		return api.Image{}, ctx.Err()
	}
	progress(api.ImageProgress{Stage: "downloading", Done: 1, Total: 2})
	return anImage, policy.Check()
}

func (*imaginative) TagImage(_ context.Context, ref, name string) (api.Image, error) {
	return api.Image{Digest: ref, Names: []string{name}}, nil
}
func (*imaginative) RemoveImage(context.Context, string) error { return nil }
func (*imaginative) PruneImages(context.Context) ([]api.Image, error) {
	return []api.Image{anImage}, nil
}

func (i *imaginative) LoadImage(_ context.Context, f *os.File, name string) ([]api.Image, error) {
	if name == "refused" {
		return nil, api.Errorf(api.LimitExceeded, "too much")
	}
	b, err := io.ReadAll(f)
	i.loaded <- string(b)
	return []api.Image{{Names: []string{name}}}, err
}

func (*imaginative) SaveImage(_ context.Context, refs []string, to *os.File) error {
	if len(refs) == 0 {
		return api.Errorf(api.InvalidArgument, "nothing")
	}
	if _, err := to.WriteString(strings.Repeat(refs[0], 10_000)); err != nil {
		return err
	}
	if refs[0] == "half" {
		return api.Errorf(api.Internal, "the disk broke")
	}
	return nil
}

func TestWireShapesOfImages(t *testing.T) {
	path := serve(t, &imaginative{loaded: make(chan string, 1)})
	for name, c := range map[string]struct {
		method, url, body string
		status            int
		want              string
	}{
		"list":              {"GET", "/v1/images", "", 200, `[]`},
		"info":              {"GET", "/v1/images/a%2Fb:c@x", "", 200, `{"digest":"sha256:00","names":["a/b:c"],"size":1,"created_at":"1970-01-01T00:00:01Z"}`},
		"no such":           {"GET", "/v1/images/a", "", 404, `"code":"NotFound"`},
		"remove":            {"DELETE", "/v1/images/a%2Fb", "", 200, `{"status":"deleted"}`},
		"tag":               {"POST", "/v1/images/a%2Fb/tag", `{"name":"n"}`, 200, `"digest":"a/b"`},
		"tag with more":     {"POST", "/v1/images/a/tag", `{"name":"n","x":1}`, 400, "unknown field"},
		"prune":             {"POST", "/v1/images/prune", "", 200, `[{"digest":"sha256:00"`},
		"pull":              {"POST", "/v1/images/pull", `{"ref":"a"}`, 200, "{\"stage\":\"downloading\",\"done\":1,\"total\":2}\n"},
		"pull's image":      {"POST", "/v1/images/pull", `{"ref":"a"}`, 200, `"image":{"digest":"sha256:00"`},
		"pull refused":      {"POST", "/v1/images/pull", `{"ref":"early"}`, 403, `"code":"Denied"`},
		"pull that fails":   {"POST", "/v1/images/pull", `{"ref":"late"}`, 200, `"code":"Unavailable","error":"cut off"`},
		"pull, odd policy":  {"POST", "/v1/images/pull", `{"ref":"a","policy":"x"}`, 200, `"code":"InvalidArgument"`},
		"pull with more":    {"POST", "/v1/images/pull", `{"image":"a"}`, 400, "unknown field"},
		"load":              {"POST", "/v1/images/load?name=n", "tar", 200, `"names":["n"]`},
		"load refused":      {"POST", "/v1/images/load?name=refused", strings.Repeat("x", 1<<20), 429, "too much"},
		"save":              {"POST", "/v1/images/save", `{"refs":["ab"]}`, 200, "abababab"},
		"save nothing":      {"POST", "/v1/images/save", `{"refs":[]}`, 400, "nothing"},
		"get what is saved": {"GET", "/v1/images/save/x", "", 404, ""},
	} {
		status, body, _ := raw(t, path, c.method, c.url, c.body)
		if status != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%s: %d %.200s, want %d %s", name, status, body, c.status, c.want)
		}
	}
}

func TestArchivesTravelWhole(t *testing.T) {
	fake := &imaginative{loaded: make(chan string, 1)}
	client := restapi.NewClient(serve(t, fake))
	defer client.Close()
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	text := strings.Repeat("0123456789", 1<<20)
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := client.LoadImage(t.Context(), f, "a b&c"); err != nil {
		t.Fatal(err)
	}
	if got := <-fake.loaded; got != text {
		t.Errorf("%d bytes arrived of %d", len(got), len(text))
	}
	if _, err := f.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	if err := client.SaveImage(t.Context(), []string{"ab"}, f); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(name); err != nil || !strings.HasPrefix(string(b), strings.Repeat("ab", 10_000)+"0") {
		t.Errorf("saved: %v", err)
	}
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := client.LoadImage(t.Context(), d, ""); api.CodeOf(err) != api.InvalidArgument {
		t.Errorf("a directory: %v", err)
	}
}

func TestSavesThatBreakOffAreNoSuccess(t *testing.T) {
	client := restapi.NewClient(serve(t, &imaginative{}))
	defer client.Close()
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	if err := client.SaveImage(t.Context(), []string{"half"}, f); api.CodeOf(err) != api.Unavailable {
		t.Errorf("a failure in the middle: %v", err)
	}
	f.Close()
	if err := client.SaveImage(t.Context(), []string{"ab"}, f); api.CodeOf(err) != api.InvalidArgument {
		t.Errorf("a file that cannot be written: %v", err)
	}
}

func TestAPullEndsWithItsCaller(t *testing.T) {
	client := restapi.NewClient(serve(t, &imaginative{}))
	defer client.Close()
	ctx, cancel := context.WithCancel(t.Context())
	_, err := client.PullImage(ctx, "never", "", func(api.ImageProgress) { cancel() })
	if api.CodeOf(err) != api.Unavailable {
		t.Errorf("%v", err)
	}
}
