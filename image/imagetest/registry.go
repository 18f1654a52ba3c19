package imagetest

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Registry is an image registry in this process, in plain HTTP.
type Registry struct {
	// Host is its HOST:PORT.
	Host string

	mu        sync.Mutex // guards the fields below
	intercept func(http.ResponseWriter, *http.Request, http.Handler)
	requests  []string
	inner     http.Handler
}

// NewRegistry starts a registry that the test ends.
func NewRegistry(tb testing.TB) *Registry {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return NewRegistryAt(tb, l)
}

// NewRegistryAt is NewRegistry at a listener, which it closes.
func NewRegistryAt(tb testing.TB, l net.Listener) *Registry {
	tb.Helper()
	r := &Registry{Host: l.Addr().String(), inner: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	server := httptest.NewUnstartedServer(r)
	server.Listener.Close()
	server.Listener = l
	server.Start()
	tb.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return r
}

// ServeHTTP implements http.Handler.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	r.requests = append(r.requests, req.Method+" "+req.URL.Path)
	intercept := r.intercept
	r.mu.Unlock()
	if intercept != nil {
		intercept(w, req, r.inner)
		return
	}
	r.inner.ServeHTTP(w, req)
}

// Intercept puts f before the registry; nil takes it away.
func (r *Registry) Intercept(f func(w http.ResponseWriter, req *http.Request, next http.Handler)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.intercept = f
}

// Requests tells the requests so far whose text has the given part, and
// forgets all.
func (r *Registry) Requests(part string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := slices.DeleteFunc(r.requests, func(s string) bool { return !strings.Contains(s, part) })
	r.requests = nil
	return all
}

// Config writes a registries.json by which this registry may be spoken to.
func (r *Registry) Config(tb testing.TB) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "registries.json")
	r.writeConfig(tb, path)
	return path
}

func (r *Registry) writeConfig(tb testing.TB, path string) {
	tb.Helper()
	if err := os.WriteFile(path, fmt.Appendf(nil, `{"insecure": [%q]}`, r.Host), 0o600); err != nil {
		tb.Fatal(err)
	}
}

// SharedConfig is a registries.json for those who make a store before they
// know of a registry. It is there while one is shared.
func SharedConfig() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("aegis-test-registries-%d.json", os.Getpid()))
}

// Share writes SharedConfig for this registry until the test ends.
func (r *Registry) Share(tb testing.TB) {
	tb.Helper()
	r.writeConfig(tb, SharedConfig())
	tb.Cleanup(func() { os.Remove(SharedConfig()) })
}

// Push makes an image known as name:tag and returns its manifest's
// descriptor.
func (r *Registry) Push(tb testing.TB, name, tag string, img Image) ocispec.Descriptor {
	tb.Helper()
	dir := tb.TempDir()
	d := Put(tb, dir, img)
	r.PushBlobs(tb, name, dir)
	r.PushManifest(tb, name, tag, d.MediaType, read(tb, BlobPath(dir, d)))
	return d
}

// PushLayout makes the index of a layout known as name:tag.
func (r *Registry) PushLayout(tb testing.TB, name, tag, dir string) {
	tb.Helper()
	r.PushBlobs(tb, name, dir)
	body := read(tb, filepath.Join(dir, "index.json"))
	var index ocispec.Index
	if err := json.Unmarshal(body, &index); err != nil {
		tb.Fatal(err)
	}
	for _, d := range index.Manifests {
		r.PushManifest(tb, name, string(d.Digest), d.MediaType, read(tb, BlobPath(dir, d)))
	}
	r.PushManifest(tb, name, tag, ocispec.MediaTypeImageIndex, body)
}

// PushBlobs makes all blobs of a layout known.
func (r *Registry) PushBlobs(tb testing.TB, name, dir string) {
	tb.Helper()
	blobs, err := os.ReadDir(filepath.Join(dir, "blobs/sha256"))
	if err != nil {
		tb.Fatal(err)
	}
	for _, b := range blobs {
		body := read(tb, filepath.Join(dir, "blobs/sha256", b.Name()))
		r.send(tb, http.MethodPost, "/v2/"+name+"/blobs/uploads/?digest=sha256:"+b.Name(), "application/octet-stream", body)
	}
}

// PushManifest makes a manifest or an index known.
func (r *Registry) PushManifest(tb testing.TB, name, ref, mediaType string, body []byte) {
	tb.Helper()
	r.send(tb, http.MethodPut, "/v2/"+name+"/manifests/"+ref, mediaType, body)
}

// PushIndex makes images for several platforms known as one.
func (r *Registry) PushIndex(tb testing.TB, name, tag string, images ...Image) ocispec.Index {
	tb.Helper()
	var index ocispec.Index
	for _, img := range images {
		dir := tb.TempDir()
		d := Put(tb, dir, img)
		r.PushBlobs(tb, name, dir)
		r.PushManifest(tb, name, string(d.Digest), d.MediaType, read(tb, BlobPath(dir, d)))
		index.Manifests = append(index.Manifests, d)
	}
	index.SchemaVersion, index.MediaType = 2, ocispec.MediaTypeImageIndex
	body, err := json.Marshal(index)
	if err != nil {
		tb.Fatal(err)
	}
	r.PushManifest(tb, name, tag, index.MediaType, body)
	return index
}

func (r *Registry) send(tb testing.TB, method, path, contentType string, body []byte) {
	tb.Helper()
	req := httptest.NewRequest(method, path, bytes.NewReader(body))
	req.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	r.inner.ServeHTTP(w, req)
	if w.Code/100 != 2 {
		tb.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
}

func read(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// ServeLayout is a registry whose every image is the layout in dir, whatever
// is wrong with it: its index, and its blobs as they are.
func ServeLayout(tb testing.TB, dir string) *Registry {
	tb.Helper()
	r := NewRegistry(tb)
	r.Intercept(func(w http.ResponseWriter, req *http.Request, _ http.Handler) {
		_, ref, ok := strings.Cut(req.URL.Path, "/manifests/")
		if !ok {
			_, ref, ok = strings.Cut(req.URL.Path, "/blobs/")
		}
		path := filepath.Join(dir, "index.json")
		if hex, isDigest := strings.CutPrefix(ref, "sha256:"); isDigest {
			path = filepath.Join(dir, "blobs/sha256", hex)
		}
		b, err := os.ReadFile(path)
		switch {
		case !ok:
			w.WriteHeader(http.StatusOK)
		case err != nil:
			w.WriteHeader(http.StatusNotFound)
		default:
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			w.Write(b)
		}
	})
	return r
}

// LayoutTar is a layout as a tar.
func LayoutTar(tb testing.TB, dir string) []byte {
	tb.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

// OpenFile is an open file with the bytes.
func OpenFile(tb testing.TB, b []byte) *os.File {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "file")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		tb.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { f.Close() })
	return f
}
