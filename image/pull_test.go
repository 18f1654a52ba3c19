package image_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/image"
	"github.com/xfeldman/aegisvm/image/imagetest"
	"github.com/xfeldman/aegisvm/image/registry"
)

// pulling is a store that may speak to a registry.
func pulling(t *testing.T, r *imagetest.Registry) (*image.Local, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	return open(t, dir, image.Options{Registry: registry.Options{Config: r.Config(t), Patience: 10 * time.Second}}), dir
}

func pull(t *testing.T, s image.Store, ref string, policy api.PullPolicy) image.Image {
	t.Helper()
	img, err := s.Pull(t.Context(), ref, policy, nil)
	if err != nil {
		t.Fatalf("pull %s: %v", ref, err)
	}
	return img
}

// names are the paths of a disk.
func names(t *testing.T, s image.Store, digest string) []string {
	t.Helper()
	f, err := s.Open(t.Context(), digest)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []string
	for _, line := range list(t, f) {
		name, _, _ := strings.Cut(line, " ")
		all = append(all, name)
	}
	return all
}

func TestPullOfEveryCompressionWithWhiteouts(t *testing.T) {
	t.Parallel()
	r := imagetest.NewRegistry(t)
	for _, how := range []string{"", "gzip", "zstd"} {
		img := imagetest.Image{Layers: []imagetest.Layer{
			{Compression: how, Entries: entries{dir("d"), file("d/gone", "1"), file("d/kept", "2"), dir("o"), file("o/gone", "3")}},
			{Compression: how, Entries: entries{file("d/.wh.gone", ""), dir("o"), file("o/.wh..wh..opq", ""), file("o/new", "4")}},
		}}
		img.Config.Env = []string{"A=" + how}
		r.Push(t, "x/img", "v"+how, img)
		s, _ := pulling(t, r)
		got := pull(t, s, r.Host+"/x/img:v"+how, "")
		if diff := cmp.Diff([]string{".", "d", "d/kept", "o", "o/new"}, names(t, s, got.Digest)); diff != "" || got.Config.Env[0] != "A="+how {
			t.Errorf("%q: %+v %s", how, got.Config, diff)
		}
	}
}

func TestPullTakesThePlatformOfThisMachine(t *testing.T) {
	t.Parallel()
	r := imagetest.NewRegistry(t)
	foreign, ours := imagetest.Of(entries{file("foreign", "")}), imagetest.Of(entries{file("ours", "")})
	foreign.Arch = "s390x"
	index := r.PushIndex(t, "img", "1", foreign, ours)
	r.PushIndex(t, "img", "none", foreign)
	s, _ := pulling(t, r)
	img := pull(t, s, r.Host+"/img:1", "")
	if got := names(t, s, img.Digest); !slices.Contains(got, "ours") {
		t.Errorf("%q", got)
	}
	asked := r.Requests("/" + string(index.Manifests[1].Digest))
	if diff := cmp.Diff([]string{"GET /v2/img/manifests/" + img.Digest}, asked); diff != "" {
		t.Error(diff)
	}
	_, err := s.Pull(t.Context(), r.Host+"/img:none", "", nil)
	if api.CodeOf(err) != api.InvalidArgument || !strings.Contains(err.Error(), "holds no image for linux/") {
		t.Errorf("%v", err)
	}
}

func TestPolicies(t *testing.T) {
	t.Parallel()
	r := imagetest.NewRegistry(t)
	one := r.Push(t, "img", "latest", imagetest.Of(entries{file("one", "")}))
	s, _ := pulling(t, r)
	ref := r.Host + "/img"
	if _, err := s.Pull(t.Context(), ref, api.PullNever, nil); api.CodeOf(err) != api.NotFound || len(r.Requests("")) != 0 {
		t.Errorf("never: %v", err)
	}
	if got := pull(t, s, ref, api.PullMissing); got.Digest != string(one.Digest) || got.Ref != ref {
		t.Errorf("missing: %+v", got)
	}
	two := r.Push(t, "img", "latest", imagetest.Of(entries{file("two", "")}))
	r.Requests("")
	for _, policy := range []api.PullPolicy{api.PullMissing, api.PullNever, ""} {
		if got := pull(t, s, ref, policy); got.Digest != string(one.Digest) {
			t.Errorf("%s: %s", policy, got.Digest)
		}
	}
	if asked := r.Requests(""); len(asked) != 0 {
		t.Errorf("the registry was asked: %q", asked)
	}
	if got := pull(t, s, ref, api.PullAlways); got.Digest != string(two.Digest) {
		t.Errorf("always: %s", got.Digest)
	}
	r.Requests("")
	pull(t, s, ref, api.PullAlways)
	if blobs := r.Requests("/blobs/"); len(blobs) != 0 {
		t.Errorf("brought again: %q", blobs)
	}
	if got := pull(t, s, ref+"@"+string(one.Digest), ""); got.Digest != string(one.Digest) {
		t.Errorf("by digest: %s", got.Digest)
	}
	if _, err := s.Pull(t.Context(), ref, "sometimes", nil); api.CodeOf(err) != api.InvalidArgument {
		t.Errorf("an odd policy: %v", err)
	}
	if img, err := s.Prepare(t.Context(), ref, nil); err != nil || img.Digest != string(two.Digest) {
		t.Errorf("prepare by name: %+v, %v", img, err)
	}
}

func TestPullTellsItsProgress(t *testing.T) {
	t.Parallel()
	r := imagetest.NewRegistry(t)
	r.Push(t, "img", "1", noise(100))
	s, _ := pulling(t, r)
	var stages []string
	last := image.Progress{}
	_, err := s.Pull(t.Context(), r.Host+"/img:1", "", func(p image.Progress) {
		if p.Stage != last.Stage {
			stages = append(stages, p.Stage)
		} else if p.Done < last.Done || p.Total != last.Total {
			t.Errorf("%+v after %+v", p, last)
		}
		if last.Stage == image.StageDownloading && p.Stage != last.Stage && last.Done != last.Total {
			t.Errorf("downloading ended with %+v", last)
		}
		last = p
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"resolving", "downloading", "building", "ready"}, stages); diff != "" {
		t.Error(diff)
	}
}

// layers is an image of n layers with one file each.
func layers(n int) imagetest.Image {
	var img imagetest.Image
	for i := range n {
		img.Layers = append(img.Layers, imagetest.Layer{Compression: "gzip", Entries: entries{file(fmt.Sprintf("f%d", i), strings.Repeat(strconv.Itoa(i), 5000))}})
	}
	return img
}

// cut lets only half of each answer to a request for a blob through, while
// when says so.
func cut(when func(req *http.Request) bool) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		if req.Method != http.MethodGet || !strings.Contains(req.URL.Path, "/blobs/") || !when(req) {
			next.ServeHTTP(w, req)
			return
		}
		next.ServeHTTP(&halfWriter{ResponseWriter: w}, req)
	}
}

type halfWriter struct {
	http.ResponseWriter
}

func (h *halfWriter) Write(p []byte) (int, error) {
	h.ResponseWriter.Write(p[:len(p)/2])
	panic(http.ErrAbortHandler)
}

func TestALayerThatIsCutOffIsTriedAgain(t *testing.T) {
	t.Parallel()
	r := imagetest.NewRegistry(t)
	r.Push(t, "img", "1", layers(1))
	s, _ := pulling(t, r)
	first := make(chan struct{}, 1)
	first <- struct{}{}
	r.Intercept(cut(func(req *http.Request) bool {
		select {
		case <-first:
			return true
		default:
			return false
		}
	}))
	pull(t, s, r.Host+"/img:1", "")
}

func TestAPullThatBrokeOffGoesOnWhereItEnded(t *testing.T) {
	t.Parallel()
	r := imagetest.NewRegistry(t)
	d := r.Push(t, "img", "1", layers(6))
	s, dir := pulling(t, r)
	var m ocispec.Manifest
	r.Intercept(func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		cut(func(req *http.Request) bool {
			return len(m.Layers) > 0 && strings.HasSuffix(req.URL.Path, string(m.Layers[5].Digest))
		})(w, req, next)
	})
	body := get(t, r, "img/manifests/"+string(d.Digest))
	if err := json.Unmarshal(body, &m); err != nil {
		t.Fatal(err)
	}
	_, err := s.Pull(t.Context(), r.Host+"/img:1", "", nil)
	if api.CodeOf(err) != api.Unavailable || !strings.Contains(err.Error(), "failed") {
		t.Errorf("cut off for ever: %v", err)
	}
	onlyImages(t, dir, 0)
	r.Intercept(nil)
	r.Requests("")
	pull(t, s, r.Host+"/img:1", "")
	if blobs := r.Requests("GET /v2/img/blobs/"); len(blobs) != 1 || !strings.HasSuffix(blobs[0], string(m.Layers[5].Digest)) {
		t.Errorf("brought again: %q", blobs)
	}
}

func get(t *testing.T, r *imagetest.Registry, path string) []byte {
	t.Helper()
	resp, err := http.Get("http://" + r.Host + "/v2/" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestADamagedBlobIsBroughtAgain(t *testing.T) {
	t.Parallel()
	r := imagetest.NewRegistry(t)
	r.Push(t, "img", "1", layers(2))
	s, dir := pulling(t, r)
	img := pull(t, s, r.Host+"/img:1", "")
	if err := s.Remove(t.Context(), r.Host+"/img:1", []string{}); err != nil {
		t.Fatal(err)
	}
	pull(t, s, r.Host+"/img:1", "")
	blobs, err := filepath.Glob(filepath.Join(dir, "oci/blobs/sha256/*"))
	if err != nil || len(blobs) != 4 {
		t.Fatalf("blobs: %q, %v", blobs, err)
	}
	for _, b := range blobs {
		os.Chmod(b, 0o600)
		if !strings.HasSuffix(b, img.Digest[len("sha256:"):]) {
			flip(t, b)
		}
	}
	os.RemoveAll(filepath.Join(dir, "images", img.Digest[len("sha256:"):]))
	if _, err := s.Prepare(t.Context(), r.Host+"/img:1", nil); api.CodeOf(err) != api.InvalidArgument || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("from damaged blobs: %v", err)
	}
	pull(t, s, r.Host+"/img:1", api.PullAlways)
}

func TestCallersShareADownload(t *testing.T) {
	t.Parallel()
	r := imagetest.NewRegistry(t)
	img := layers(3)
	r.Push(t, "img", "1", img)
	r.Push(t, "img", "2", img)
	s, _ := pulling(t, r)
	var g errgroup.Group
	for i := range 8 {
		g.Go(func() error {
			_, err := s.Pull(t.Context(), fmt.Sprintf("%s/img:%d", r.Host, 1+i%2), "", nil)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if blobs := r.Requests("GET /v2/img/blobs/"); len(blobs) != 4 { // and the configuration
		t.Errorf("%d downloads of 4 blobs: %q", len(blobs), blobs)
	}
}

func TestRefusalsOfRegistriesAreToldInOneLine(t *testing.T) {
	t.Parallel()
	r := imagetest.NewRegistry(t)
	r.Push(t, "img", "1", layers(1))
	status := func(code int, body string) func(http.ResponseWriter, *http.Request, http.Handler) {
		return func(w http.ResponseWriter, req *http.Request, _ http.Handler) {
			w.WriteHeader(code)
			io.WriteString(w, body)
		}
	}
	only := func(part string, f func(http.ResponseWriter, *http.Request, http.Handler)) func(http.ResponseWriter, *http.Request, http.Handler) {
		return func(w http.ResponseWriter, req *http.Request, next http.Handler) {
			if strings.Contains(req.URL.Path, part) {
				f(w, req, next)
				return
			}
			next.ServeHTTP(w, req)
		}
	}
	basic := func(w http.ResponseWriter, req *http.Request, _ http.Handler) {
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	}
	for name, test := range map[string]struct {
		ref       string
		intercept func(http.ResponseWriter, *http.Request, http.Handler)
		code      api.Code
		message   string
	}{
		"no such repository": {"nosuch:1", nil, api.NotFound, "check the name and the tag"},
		"no such tag":        {"img:2", nil, api.NotFound, "check the name and the tag"},
		"no such digest":     {"img@" + string(imagetest.Digest(nil)), nil, api.NotFound, "check the name"},
		"no credentials":     {"img:1", basic, api.Unavailable, "docker login " + r.Host},
		"forbidden":          {"img:1", only("/manifests/", status(403, "\x1b[31mno\nno")), api.Unavailable, "refuses"},
		"too many":           {"img:1", only("/manifests/", status(429, "")), api.Unavailable, "no more pulls"},
		"an error":           {"img:1", only("/manifests/", status(500, "\x1b[31mbad\nnews")), api.Unavailable, "bad news"},
		"a layer is missing": {"img:1", only("/blobs/", status(404, "")), api.NotFound, "has no"},
		"no manifest":        {"img:1", only("/manifests/", status(200, "<html>")), api.InvalidArgument, "media type"},
		"an endless document": {"img:1", only("/manifests/", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			for b := make([]byte, 1<<20); ; {
				if _, err := w.Write(b); err != nil {
					return
				}
			}
		}), api.LimitExceeded, "more than"},
		"an endless greeting": {"img:1", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			for b := make([]byte, 1<<20); ; {
				if _, err := w.Write(b); err != nil {
					return
				}
			}
		}, api.LimitExceeded, "more than"},
		"a redirect to nowhere": {"img:1", only("/blobs/", func(w http.ResponseWriter, req *http.Request, _ http.Handler) {
			http.Redirect(w, req, "http://registry.invalid/blob", http.StatusTemporaryRedirect)
		}), api.Unavailable, "plain HTTP is not allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			s, dir := pulling(t, r)
			r.Intercept(test.intercept)
			defer r.Intercept(nil)
			_, err := s.Pull(t.Context(), r.Host+"/"+test.ref, "", nil)
			if api.CodeOf(err) != test.code || !strings.Contains(fmt.Sprint(err), test.message) || strings.ContainsAny(fmt.Sprint(err), "\n\r\x1b") {
				t.Errorf("%q: %q; expected %q with %q", api.CodeOf(err), err, test.code, test.message)
			}
			onlyImages(t, dir, 0)
		})
	}
}

func TestRegistriesThatCannotBeReached(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	l.Close()
	r := imagetest.NewRegistry(t)
	plain := open(t, t.TempDir(), image.Options{})
	for name, test := range map[string]struct{ ref, message string }{
		"nobody listens":   {closed + "/img:1", "by HTTPS"},
		"an unknown host":  {"registry.invalid/img:1", "not known"},
		"plain HTTP":       {r.Host + "/img:1", "insecure"},
		"plain HTTP local": {strings.Replace(r.Host, "127.0.0.1", "localhost", 1) + "/img:1", "insecure"},
	} {
		_, err := plain.Pull(t.Context(), test.ref, "", nil)
		if api.CodeOf(err) != api.Unavailable || !strings.Contains(fmt.Sprint(err), test.message) || strings.Contains(fmt.Sprint(err), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if asked := r.Requests(""); len(asked) != 0 {
		t.Errorf("asked in plain HTTP: %q", asked)
	}
}

func TestARegistryThatHangs(t *testing.T) {
	t.Parallel()
	r := imagetest.NewRegistry(t)
	r.Push(t, "img", "1", layers(1))
	hanging, release := make(chan struct{}, 100), make(chan struct{})
	t.Cleanup(func() { close(release) })
	for name, part := range map[string]string{"at the greeting": "/v2/", "at the manifest": "/manifests/", "in a blob": "/blobs/"} {
		t.Run(name, func(t *testing.T) {
			r.Intercept(func(w http.ResponseWriter, req *http.Request, next http.Handler) {
				if !strings.Contains(req.URL.Path, part) {
					next.ServeHTTP(w, req)
					return
				}
				if part == "/blobs/" {
					w.Header().Set("Content-Length", "100")
					w.Write([]byte("x"))
					w.(http.Flusher).Flush()
				}
				hanging <- struct{}{}
				select {
				case <-release:
				case <-req.Context().Done():
				}
			})
			s, _ := pulling(t, r)
			ctx, cancel := context.WithCancel(t.Context())
			go func() { <-hanging; cancel() }()
			if _, err := s.Pull(ctx, r.Host+"/img:1", "", nil); !errors.Is(err, context.Canceled) {
				t.Errorf("given up: %v", err)
			}
			impatient := open(t, t.TempDir(), image.Options{Registry: registry.Options{Config: r.Config(t), Patience: 50 * time.Millisecond}})
			_, err := impatient.Pull(t.Context(), r.Host+"/img:1", "", nil)
			if api.CodeOf(err) != api.Unavailable || !strings.Contains(fmt.Sprint(err), "nothing came") {
				t.Errorf("out of patience: %v", err)
			}
		})
	}
}
