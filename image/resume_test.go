package image_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/image"
	"github.com/xfeldman/aegisvm/image/imagetest"
	"github.com/xfeldman/aegisvm/image/registry"
)

// partials are the beginnings of blobs in a store, and their sizes.
func partials(t testing.TB, dir string) map[string]int64 {
	t.Helper()
	all, err := os.ReadDir(filepath.Join(dir, "partial"))
	if err != nil {
		t.Fatal(err)
	}
	sizes := map[string]int64{}
	for _, e := range all {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		sizes["sha256:"+e.Name()] = info.Size()
	}
	return sizes
}

// answer is what a registry makes of a request for the layer b, whose asked
// is the range.
type answer func(w http.ResponseWriter, b []byte, asked string)

// from is the byte that a range begins with.
func from(asked string) (at int) {
	fmt.Sscanf(asked, "bytes=%d-", &at)
	return at
}

func head(w http.ResponseWriter, code, length int, contentRange string) {
	w.Header().Set("Content-Length", fmt.Sprint(length))
	if contentRange != "" {
		w.Header().Set("Content-Range", contentRange)
	}
	w.WriteHeader(code)
}

func breakOff(w http.ResponseWriter) {
	http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// wholly gives all.
func wholly(w http.ResponseWriter, b []byte, _ string) {
	head(w, http.StatusOK, len(b), "")
	w.Write(b)
}

// rest gives what was asked for.
func rest(w http.ResponseWriter, b []byte, asked string) {
	at := from(asked)
	head(w, http.StatusPartialContent, len(b)-at, fmt.Sprintf("bytes %d-%d/%d", at, len(b)-1, len(b)))
	w.Write(b[at:])
}

// upTo gives what was asked for and breaks off before the byte n.
func upTo(n int) answer {
	return func(w http.ResponseWriter, b []byte, asked string) {
		at := from(asked)
		if asked == "" {
			head(w, http.StatusOK, len(b), "")
		} else {
			head(w, http.StatusPartialContent, len(b)-at, fmt.Sprintf("bytes %d-%d/%d", at, len(b)-1, len(b)))
		}
		w.Write(b[at:max(at, (n+len(b))%len(b))])
		breakOff(w)
	}
}

// saying answers a range with other words for it and the given bytes.
func saying(format string, change func(b []byte, at int) []byte) answer {
	return func(w http.ResponseWriter, b []byte, asked string) {
		at := from(asked)
		text := strings.NewReplacer("AT", fmt.Sprint(at), "END", fmt.Sprint(len(b)-1), "SIZE", fmt.Sprint(len(b))).Replace(format)
		if text != "" {
			w.Header().Set("Content-Range", text)
		}
		w.WriteHeader(http.StatusPartialContent)
		w.Write(change(b, at))
	}
}

func tail(b []byte, at int) []byte { return b[at:] }

func status(code int) answer {
	return func(w http.ResponseWriter, _ []byte, _ string) { w.WriteHeader(code) }
}

// served is a registry with an image of one layer, which it gives by a script;
// what comes after that is given as it was asked for.
type served struct {
	*imagetest.Registry
	layer ocispec.Descriptor
	body  []byte

	mu     sync.Mutex // guards the fields below
	script []answer
	asked  []string
}

func serve(t *testing.T, size int, script ...answer) *served {
	t.Helper()
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{1}).Read(b)
	s := &served{Registry: imagetest.NewRegistry(t), script: script}
	d := s.Push(t, "img", "1", imagetest.Of(entries{file("f", string(b))}))
	var m ocispec.Manifest
	if err := json.Unmarshal(get(t, s.Registry, "img/manifests/"+string(d.Digest)), &m); err != nil {
		t.Fatal(err)
	}
	s.layer = m.Layers[0]
	s.body = get(t, s.Registry, "img/blobs/"+string(s.layer.Digest))
	s.Intercept(s.answer)
	return s
}

func (s *served) answer(w http.ResponseWriter, req *http.Request, next http.Handler) {
	if !strings.HasSuffix(req.URL.Path, "/blobs/"+string(s.layer.Digest)) {
		next.ServeHTTP(w, req)
		return
	}
	asked := req.Header.Get("Range")
	s.mu.Lock()
	s.asked = append(s.asked, asked)
	do := answer(wholly)
	if asked != "" {
		do = rest
	}
	if len(s.script) > 0 {
		do, s.script = s.script[0], s.script[1:]
	}
	s.mu.Unlock()
	do(w, bytes.Clone(s.body), asked)
}

func (s *served) wantAsked(t *testing.T, from ...int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var want []string
	for _, n := range from {
		text := ""
		if n > 0 {
			text = fmt.Sprintf("bytes=%d-%d", n, len(s.body)-1)
		}
		want = append(want, text)
	}
	if diff := cmp.Diff(want, s.asked); diff != "" {
		t.Errorf("asked for: %s", diff)
	}
	s.asked = nil
}

func TestADownloadGoesOnWhereItBrokeOff(t *testing.T) {
	t.Parallel()
	flipped := func(b []byte, at int) []byte { b[len(b)-1] ^= 1; return b[at:] }
	const size = 10_752 // of the layer: one file of 9,000 bytes as a tar
	for name, test := range map[string]struct {
		script []answer
		asked  []int
	}{
		"at once":                        {[]answer{upTo(0)}, []int{0, 0}},
		"after a byte":                   {[]answer{upTo(1)}, []int{0, 1}},
		"in the middle":                  {[]answer{upTo(5000)}, []int{0, 5000}},
		"twice":                          {[]answer{upTo(5000), upTo(7000)}, []int{0, 5000, 7000}},
		"before the last byte":           {[]answer{upTo(-1)}, []int{0, size - 1}},
		"no ranges":                      {[]answer{upTo(5000), wholly}, []int{0, 5000}},
		"no ranges, twice":               {[]answer{upTo(5000), func(w http.ResponseWriter, b []byte, _ string) { upTo(3000)(w, b, "") }}, []int{0, 5000, 3000}},
		"a size that is not told":        {[]answer{upTo(5000), saying("bytes AT-END/*", tail)}, []int{0, 5000}},
		"a range from another byte":      {[]answer{upTo(5000), saying("bytes 4999-END/SIZE", tail)}, []int{0, 5000, 0}},
		"a range to another byte":        {[]answer{upTo(5000), saying("bytes AT-9000/SIZE", tail)}, []int{0, 5000, 0}},
		"a range of another size":        {[]answer{upTo(5000), saying("bytes AT-END/99999", tail)}, []int{0, 5000, 0}},
		"a range of other units":         {[]answer{upTo(5000), saying("lines AT-END/SIZE", tail)}, []int{0, 5000, 0}},
		"a range that is none":           {[]answer{upTo(5000), saying("bytes */SIZE", tail)}, []int{0, 5000, 0}},
		"a range that is not told":       {[]answer{upTo(5000), saying("", tail)}, []int{0, 5000, 0}},
		"a range that cannot be given":   {[]answer{upTo(5000), status(http.StatusRequestedRangeNotSatisfiable)}, []int{0, 5000, 0}},
		"a refusal of ranges":            {[]answer{upTo(5000), status(http.StatusBadRequest)}, []int{0, 5000, 0}},
		"more than was asked for":        {[]answer{upTo(5000), saying("bytes AT-END/SIZE", func(b []byte, at int) []byte { return append(b[at:], 1, 2, 3) })}, []int{0, 5000, 0}},
		"less than was promised":         {[]answer{upTo(5000), saying("bytes AT-END/SIZE", func(b []byte, at int) []byte { return b[at : len(b)-10] })}, []int{0, 5000, 0}},
		"the whole instead of the range": {[]answer{upTo(5000), saying("bytes AT-END/SIZE", func(b []byte, _ int) []byte { return b })}, []int{0, 5000, 0}},
		"other bytes from there on":      {[]answer{upTo(5000), saying("bytes AT-END/SIZE", flipped)}, []int{0, 5000, 0}},
		"other bytes before": {[]answer{func(w http.ResponseWriter, b []byte, asked string) {
			w.Header().Set("ETag", `"one"`)
			b[0] ^= 1
			upTo(5000)(w, b, asked)
		}}, []int{0, 5000, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := serve(t, 9000, test.script...)
			if len(r.body) != size {
				t.Fatalf("the layer has %d bytes", len(r.body))
			}
			s, dir := pulling(t, r.Registry)
			img := pull(t, s, r.Host+"/img:1", "")
			r.wantAsked(t, test.asked...)
			if diff := cmp.Diff([]string{".", "f"}, names(t, s, img.Digest)); diff != "" {
				t.Error(diff)
			}
			if left := partials(t, dir); len(left) != 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func TestARangeThatNobodyAskedForIsRefused(t *testing.T) {
	t.Parallel()
	r := serve(t, 9000, func(w http.ResponseWriter, b []byte, _ string) { rest(w, b, "bytes=5-") })
	s, dir := pulling(t, r.Registry)
	if _, err := s.Pull(t.Context(), r.Host+"/img:1", "", nil); api.CodeOf(err) != api.Unavailable || !strings.Contains(err.Error(), "206") {
		t.Errorf("%v", err)
	}
	if left := partials(t, dir); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// A registry that gives wrong bytes again and again is not asked for ever.
func TestWrongBytesAreBroughtOnceMoreOnly(t *testing.T) {
	t.Parallel()
	wrong := func(w http.ResponseWriter, b []byte, asked string) { b[0] ^= 1; wholly(w, b, asked) }
	r := serve(t, 9000, upTo(5000), saying("bytes AT-END/SIZE", func(b []byte, at int) []byte { b[at] ^= 1; return b[at:] }), wrong)
	s, dir := pulling(t, r.Registry)
	if _, err := s.Pull(t.Context(), r.Host+"/img:1", "", nil); api.CodeOf(err) != api.InvalidArgument || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("%v", err)
	}
	r.wantAsked(t, 0, 5000, 0)
	if left := partials(t, dir); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// A line that breaks again and again, but brings something each time, brings
// all.
func TestEveryMebibyteIsWorthAnotherTry(t *testing.T) {
	t.Parallel()
	const step = 1_100_000
	var script []answer
	var asked []int
	for i := range 6 {
		script, asked = append(script, upTo((i+1)*step)), append(asked, i*step)
	}
	r := serve(t, 7_000_000, script...)
	s, _ := pulling(t, r.Registry)
	var last image.Progress
	_, err := s.Pull(t.Context(), r.Host+"/img:1", "", func(p image.Progress) {
		if p.Stage == image.StageDownloading && (p.Done < last.Done || p.Done > p.Total) {
			t.Errorf("%+v after %+v", p, last)
		}
		if p.Stage == image.StageDownloading {
			last = p
		}
	})
	if err != nil || last.Done != last.Total || last.Total != int64(len(r.body)) {
		t.Errorf("%v, at last %+v", err, last)
	}
	r.wantAsked(t, append(asked, 6*step)...)
}

func TestTheNextPullGoesOn(t *testing.T) {
	t.Parallel()
	r := serve(t, 9000, upTo(1000), upTo(2000), upTo(3000))
	s, dir := pulling(t, r.Registry)
	ref := r.Host + "/img:1"
	if _, err := s.Pull(t.Context(), ref, "", nil); api.CodeOf(err) != api.Unavailable {
		t.Errorf("broken off for ever: %v", err)
	}
	if diff := cmp.Diff(map[string]int64{string(r.layer.Digest): 3000}, partials(t, dir)); diff != "" {
		t.Error(diff)
	}
	if all, err := s.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
	again := open(t, dir, image.Options{Registry: registry.Options{Config: r.Config(t)}})
	pull(t, again, ref, "")
	r.wantAsked(t, 0, 1000, 2000, 3000)
}

// What lies there may be anything after a loss of power.
func TestADamagedBeginningIsNotTakenForWhole(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		there func(b []byte) []byte
		asked []int
	}{
		"zeros":       {func(b []byte) []byte { return make([]byte, 4000) }, []int{4000, 0}},
		"all zeros":   {func(b []byte) []byte { return make([]byte, len(b)) }, []int{0}},
		"too much":    {func(b []byte) []byte { return append(b, 1) }, []int{0}},
		"all of it":   {slices.Clone[[]byte], nil},
		"nothing yet": {func(b []byte) []byte { return nil }, []int{0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := serve(t, 9000)
			s, dir := pulling(t, r.Registry)
			path := filepath.Join(dir, "partial", r.layer.Digest.Encoded())
			if err := os.WriteFile(path, test.there(r.body), 0o600); err != nil {
				t.Fatal(err)
			}
			pull(t, s, r.Host+"/img:1", "")
			r.wantAsked(t, test.asked...)
		})
	}
}

// begin makes the beginning of a blob that nobody knows.
func begin(t *testing.T, dir string, n byte, size int64, age time.Duration) string {
	t.Helper()
	hex := strings.Repeat(fmt.Sprintf("%02x", n), 32)
	path := filepath.Join(dir, "partial", hex)
	err := os.WriteFile(path, nil, 0o600)
	if err == nil {
		err = os.Truncate(path, size)
	}
	if err == nil {
		err = os.Chtimes(path, time.Time{}, time.Now().Add(-age))
	}
	if err != nil {
		t.Fatal(err)
	}
	return "sha256:" + hex
}

func TestBeginningsAreBoundedInAgeAndSize(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	limits := image.Limits{Packed: 1000}
	open(t, dir, image.Options{}).Close()
	begin(t, dir, 1, 10, 8*24*time.Hour)
	begin(t, dir, 2, 600, 3*time.Hour)
	kept := begin(t, dir, 3, 500, 2*time.Hour)
	begin(t, dir, 4, 1001, 4*time.Hour)
	s := open(t, dir, image.Options{Limits: limits})
	if diff := cmp.Diff(map[string]int64{kept: 500}, partials(t, dir)); diff != "" {
		t.Error(diff)
	}
	if _, err := s.Prune(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if left := partials(t, dir); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
