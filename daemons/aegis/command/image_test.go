package command

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
)

// imageAegis keeps images in its mind.
type imageAegis struct {
	fakeAegis
	asked []string
}

var someImages = []api.Image{
	{
		Digest: "sha256:0123456789abcdef0123", Names: []string{"docker.io/library/a:1", "docker.io/library/b:1"}, Size: 3 << 20,
		PackedSize: 1 << 20, Layers: 2, CreatedAt: time.Unix(1_700_000_000, 0).UTC(), Env: []string{"A=b", "ESC=\x1b[31m"}, Command: []string{"sh", "-c", "x y"},
		UsedBy: []string{"db", "web"},
	},
	{Digest: "sha256:ba5e", Base: true, Size: 512, CreatedAt: time.Unix(1_700_000_000, 0).UTC()},
	{Digest: "sha256:dead", CreatedAt: time.Unix(1_700_000_000, 0).UTC()},
}

func (f *imageAegis) ask(words ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, strings.Join(words, " "))
}

func (f *imageAegis) ListImages(context.Context) ([]api.Image, error) { return someImages, nil }

func (f *imageAegis) ImageInfo(_ context.Context, ref string) (api.Image, error) {
	f.ask("info", ref)
	return someImages[0], nil
}

func (f *imageAegis) PullImage(_ context.Context, ref string, policy api.PullPolicy, progress func(api.ImageProgress)) (api.Image, error) {
	f.ask("pull", ref, string(policy))
	progress(api.ImageProgress{Stage: "downloading", Done: 1, Total: 2})
	if ref == "nosuch" {
		return api.Image{}, api.Errorf(api.NotFound, "no nosuch")
	}
	return someImages[0], nil
}

func (f *imageAegis) TagImage(_ context.Context, ref, name string) (api.Image, error) {
	f.ask("tag", ref, name)
	return someImages[0], nil
}

func (f *imageAegis) RemoveImage(_ context.Context, ref string) error {
	f.ask("rm", ref)
	if ref == "used" {
		return api.Errorf(api.BadState, "image used is in use by web")
	}
	return nil
}

func (f *imageAegis) PruneImages(context.Context) ([]api.Image, error) { return someImages[:1], nil }

func (f *imageAegis) LoadImage(_ context.Context, archive *os.File, name string) ([]api.Image, error) {
	words := []string{"load", name}
	r := tar.NewReader(archive)
	for hdr, err := r.Next(); !errors.Is(err, io.EOF); hdr, err = r.Next() {
		if err != nil {
			return nil, api.Errorf(api.InvalidArgument, "%w", err)
		}
		words = append(words, hdr.Name)
	}
	f.ask(words...)
	return someImages[2:], nil
}

func (f *imageAegis) SaveImage(_ context.Context, refs []string, to *os.File) error {
	f.ask(append([]string{"save"}, refs...)...)
	if refs[0] == "nosuch" {
		return api.Errorf(api.NotFound, "no nosuch")
	}
	_, err := to.WriteString(strings.Repeat("x", 2000))
	return err
}

func serveImages(t *testing.T) *imageAegis {
	t.Helper()
	f := &imageAegis{}
	serve(t, f)
	return f
}

func TestImageCommandsAskAndTell(t *testing.T) {
	t.Setenv("TZ", "UTC")
	f := serveImages(t)
	archive := filepath.Join(t.TempDir(), "layout")
	if err := os.MkdirAll(filepath.Join(archive, "blobs"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(archive, "index.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args     []string
		code     int
		out, err string
		asked    string
	}{
		{[]string{"pull", "a:1"}, 0, "Image sha256:0123456789ab is a:1\n", "", "pull a:1 always"},
		{[]string{"pull", "--pull=missing", "a"}, 0, "Image sha256:0123456789ab is a\n", "", "pull a missing"},
		{[]string{"pull", "-o", "json", "a"}, 0, `"digest": "sha256:0123456789abcdef0123"`, "", "pull a always"},
		{[]string{"pull", "nosuch"}, 1, "", "no nosuch", "pull nosuch always"},
		{[]string{"pull", "--pull=sometimes", "a"}, 2, "", "expected missing, always or never", ""},
		{[]string{"pull"}, 2, "", "no NAME", ""},
		{[]string{"pull", "a", "b"}, 2, "", `unexpected argument "b"`, ""},
		{[]string{"list"}, 0, "docker.io/library/b:1  sha256:0123456789ab  3.0 MiB  2023-11-14 22:13:20  ", "", ""},
		{[]string{"ls"}, 0, "(base)", "", ""},
		{[]string{"list", "-o", "json"}, 0, `"used_by": [`, "", ""},
		{[]string{"list", "-o", "wide"}, 0, `1.0 MiB  2       ["sh" "-c" "x y"]`, "", ""},
		{[]string{"list", "-o", "name"}, 0, "docker.io/library/a:1\ndocker.io/library/b:1\nsha256:ba5e\nsha256:dead\n", "", ""},
		{[]string{"list", "-q"}, 0, "sha256:0123456789abcdef0123\nsha256:ba5e\nsha256:dead\n", "", ""},
		{[]string{"list", "-o", "yaml"}, 0, "- digest: sha256:0123456789abcdef0123\n", "", ""},
		{[]string{"info", "a"}, 0, `Env:         "ESC=\x1b[31m"`, "", "info a"},
		{[]string{"list", "x"}, 2, "", "unexpected argument", ""},
		{[]string{"info", "a"}, 0, "Packed:      1.0 MiB in 2 layers\n", "", "info a"},
		{[]string{"info", "a"}, 0, `Command:     ["sh" "-c" "x y"]`, "", "info a"},
		{[]string{"info", "-o", "json", "a"}, 0, `"layers": 2`, "", "info a"},
		{[]string{"tag", "a", "b"}, 0, "is b\n", "", "tag a b"},
		{[]string{"tag", "a"}, 2, "", "no NAME", ""},
		{[]string{"rm", "a"}, 0, "Image a removed\n", "", "rm a"},
		{[]string{"rm", "used"}, 1, "", "in use by web", "rm used"},
		{[]string{"rm"}, 2, "", "no image", ""},
		{[]string{"prune"}, 0, "1 images removed, 4.0 MiB freed\n", "", ""},
		{[]string{"prune", "-o", "json"}, 0, `"packed_size": 1048576`, "", ""},
		{[]string{"load", archive, "--name", "x:1"}, 0, "Image sha256:dead is (none)\n", "", "load x:1 blobs/ index.json"},
		{[]string{"load", "/no/such/file"}, 1, "", "no such file", ""},
		{[]string{"load", "/etc/passwd"}, 1, "", "", ""},
		{[]string{"save", "nosuch"}, 1, "", "no nosuch", "save nosuch"},
		{[]string{"save", "a", "b"}, 0, "xxxx", "", "save a b"},
		{[]string{"nosuch"}, 2, "", "unknown command", ""},
	} {
		f.asked = nil
		code, out, errs := aegis(t, append([]string{"image"}, c.args...)...)
		if code != c.code || !strings.Contains(out, c.out) || !strings.Contains(errs, c.err) || (c.code != 0) != (errs != "") {
			t.Errorf("%q: %d, %q, %q; want %d, %q, %q", c.args, code, out, errs, c.code, c.out, c.err)
		}
		if c.asked != "" && !slices.Equal(f.asked, []string{c.asked}) {
			t.Errorf("%q: asked %q, want %q", c.args, f.asked, c.asked)
		}
	}
}

func TestSavedFilesAreWholeOrNotThere(t *testing.T) {
	serveImages(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "images.tar")
	if code, _, errs := aegis(t, "image", "save", "nosuch", "-f", path); code != 1 {
		t.Errorf("%d %s", code, errs)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if code, _, errs := aegis(t, "image", "save", "a", "--file", path); code != 0 {
		t.Errorf("%d %s", code, errs)
	}
	if b, err := os.ReadFile(path); err != nil || len(b) != 2000 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func TestRunSaysWhenToPull(t *testing.T) {
	f := &fakeAegis{}
	serve(t, f)
	if code, _, errs := aegis(t, "run", "--image", "debian:12", "--pull", "never", "--", "true"); code != 125 || !strings.Contains(errs, "refused for the test") {
		t.Errorf("%d %s", code, errs)
	}
	want := &api.InstanceSpec{Command: []string{"true"}, ImageRef: "debian:12", Pull: api.PullNever, Attach: true, AutoRemove: true}
	if diff := cmp.Diff(want, f.spec); diff != "" {
		t.Error(diff)
	}
	if code, _, errs := aegis(t, "run", "--pull", "often", "--", "true"); code != 2 || !strings.Contains(errs, "expected missing, always or never") {
		t.Errorf("%d %s", code, errs)
	}
}

func TestSizesForPeople(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536 << 20: "1.5 GiB", 1 << 50: "1024.0 TiB"} {
		if got := size(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestStagesForPeople(t *testing.T) {
	for want, p := range map[string]api.ImageProgress{
		"resolving": {Stage: "resolving"},
		"downloading [##########          ]  50% 1.0 MiB of 2.0 MiB": {Stage: "downloading", Done: 1 << 20, Total: 2 << 20},
	} {
		if got := stageText(p); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestTheShellCompletesImages(t *testing.T) {
	serveImages(t)
	for want, words := range map[string][]string{
		"docker.io/library/a:1\na:1\ndocker.io/library/b:1\nb:1\n:4\n": {"image", "rm", ""},
		"b:1\n:4\n":                    {"image", "rm", "a:1", "b"},
		"a:1\n:0\n":                    {"run", "--image", "a"},
		"missing\nalways\nnever\n:4\n": {"run", "--pull", ""},
		":4\n":                         {"image", "tag", "a:1", ""},
	} {
		if code, out, _ := aegis(t, append([]string{"__complete"}, words...)...); code != 0 || out != want {
			t.Errorf("%q: %d %q, want %q", words, code, out, want)
		}
	}
	t.Setenv("AEGIS_ADDRESS", "unix:/no/such/socket")
	if code, out, _ := aegis(t, "__complete", "image", "rm", ""); code != 0 || out != ":4\n" {
		t.Errorf("without aegisd: %d %q", code, out)
	}
}

func TestLoadShowsOnATerminalHowMuchWasTaken(t *testing.T) {
	serveImages(t)
	archive := filepath.Join(t.TempDir(), "archive")
	content := strings.Repeat("x", 3<<20)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: "blob", Size: int64(len(content)), Mode: 0o644})
	if err == nil {
		_, err = io.WriteString(w, content)
	}
	if err = errors.Join(err, w.Close(), os.WriteFile(archive, b.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	code, screen := onTerminal(t, 24, 80, "image", "load", archive)
	for _, want := range []string{"reading [######", "of 3.0 MiB", "reading [#############       ]  66%", "\x1b[KImage sha256:dead"} {
		if code != 0 || !strings.Contains(screen, want) {
			t.Errorf("%d, %q lacks %q", code, screen, want)
		}
	}
	if code, screen = onTerminal(t, 24, 80, "image", "load", "/etc/passwd"); code != 1 || strings.Contains(screen, "broken pipe") {
		t.Errorf("%d, %q", code, screen)
	}
}
