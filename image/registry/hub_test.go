package registry_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
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
	"github.com/xfeldman/aegisvm/image/imagetest"
	"github.com/xfeldman/aegisvm/image/registry"
)

// hub is Docker Hub as far as a pull sees it: a registry that lets in who has
// a token, a server of such, and another one that has the blobs.
type hub struct {
	images    *imagetest.Registry
	transport *http.Transport

	mu     sync.Mutex // guards the fields below
	asked  []string
	token  int // the one that holds now
	limits int // requests to refuse with 429
}

const (
	hubHost   = "index.docker.io"
	authHost  = "auth.docker.io"
	blobsHost = "production.cloudflare.docker.com"
)

func newHub(t *testing.T) *hub {
	t.Helper()
	h := &hub{images: imagetest.NewRegistry(t)}
	cert, roots := certificate(t, hubHost, authHost, blobsHost)
	s := httptest.NewUnstartedServer(h)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.StartTLS()
	t.Cleanup(s.Close)
	h.transport = &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, s.Listener.Addr().String())
		},
	}
	return h
}

// certificate is one that vouches for itself.
func certificate(t *testing.T, hosts ...string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: hosts, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

// ServeHTTP implements http.Handler.
func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	auth := r.Header.Get("Authorization")
	kind, _, _ := strings.Cut(auth, " ")
	h.asked = append(h.asked, strings.TrimSpace(r.Host+r.URL.RequestURI()+" "+kind))
	holds := auth == fmt.Sprint("Bearer token", h.token)
	switch {
	case r.Host == blobsHost:
		r.URL.Path = r.URL.Query().Get("path")
		h.images.ServeHTTP(w, r)
	case r.Host == authHost:
		h.issue(w, r)
	case !holds:
		w.Header().Set("WWW-Authenticate", `Bearer realm="https://auth.docker.io/token",service="registry.docker.io"`)
		w.WriteHeader(http.StatusUnauthorized)
	case h.limits > 0:
		h.limits--
		w.WriteHeader(http.StatusTooManyRequests)
		io.WriteString(w, `{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}`)
	case strings.Contains(r.URL.Path, "/blobs/"):
		w.Header().Set("Location", "https://"+blobsHost+"/signed?path="+url.QueryEscape(r.URL.Path)+"&verify=secret")
		w.WriteHeader(http.StatusTemporaryRedirect)
	default:
		h.images.ServeHTTP(w, r)
	}
}

// issue gives everybody a token, and who has an account another one.
func (h *hub) issue(w http.ResponseWriter, r *http.Request) {
	user, password, ok := r.BasicAuth()
	if ok && (user != "user" || password != "password") {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	fmt.Fprintf(w, `{"token": "token%d", "expires_in": 300}`, h.token)
}

// requests tells what was asked, and forgets it.
func (h *hub) requests() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := h.asked
	h.asked = nil
	return all
}

// place is where an image is looked for.
func (h *hub) place(t *testing.T, config, image string) *registry.Repository {
	t.Helper()
	c := registry.New(registry.Options{Config: config})
	t.Cleanup(c.Close)
	c.Via(h.transport)
	places, err := c.Repositories(parse(t, image))
	if err != nil {
		t.Fatal(err)
	}
	return places[0]
}

// account is a home with credentials, or none.
func account(t *testing.T, config string) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("DOCKER_CONFIG", dir)
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
}

const tokenFor = authHost + "/token?scope=repository%3Alibrary%2Fdebian%3Apull&service=registry.docker.io"

func TestDockerHubIsAskedAsDockerDoes(t *testing.T) {
	h := newHub(t)
	d := h.images.Push(t, "library/debian", "12", imagetest.Of([]imagetest.Entry{imagetest.File("a", "content")}))
	blob := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: d.Digest, Size: d.Size}
	for name, c := range map[string]struct{ config, image, token string }{
		"nobody":           {`{}`, "debian:12", tokenFor},
		"a whole name":     {`{}`, "docker.io/library/debian:12", tokenFor},
		"the registry":     {`{}`, "index.docker.io/debian:12", tokenFor},
		"with an account":  {`{"auths": {"https://index.docker.io/v1/": {"auth": "dXNlcjpwYXNzd29yZA=="}}}`, "debian:12", tokenFor + " Basic"},
		"of another place": {`{"auths": {"quay.io": {"auth": "dXNlcjpwYXNzd29yZA=="}}}`, "debian:12", tokenFor},
	} {
		t.Run(name, func(t *testing.T) {
			account(t, c.config)
			h.requests()
			p := h.place(t, "", c.image)
			got, _, err := p.Resolve(t.Context())
			if err != nil || got.Digest != d.Digest {
				t.Fatalf("%+v, %v", got, err)
			}
			body, at, err := p.OpenFrom(t.Context(), blob, 5)
			if err != nil {
				t.Fatal(err)
			}
			defer body.Close()
			if b, err := io.ReadAll(body); err != nil || at != 5 || int64(len(b)) != d.Size-5 {
				t.Errorf("from %d: %d bytes, %v", at, len(b), err)
			}
			path := "/v2/library/debian/blobs/" + string(d.Digest)
			want := []string{
				hubHost + "/v2/", c.token, hubHost + "/v2/library/debian/manifests/12 Bearer", hubHost + path + " Bearer",
				blobsHost + "/signed?path=" + url.QueryEscape(path) + "&verify=secret", // and no credentials
			}
			if diff := cmp.Diff(want, h.requests()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDockerHubRefuses(t *testing.T) {
	h := newHub(t)
	h.images.Push(t, "library/debian", "12", imagetest.Of([]imagetest.Entry{imagetest.File("a", "")}))
	account(t, `{"auths": {"https://index.docker.io/v1/": {"auth": "dXNlcjp3cm9uZw=="}}}`)
	if _, _, err := h.place(t, "", "debian:12").Resolve(t.Context()); api.CodeOf(err) != api.Unavailable || !strings.Contains(err.Error(), "docker login docker.io") {
		t.Errorf("a wrong password: %v", err)
	}
	account(t, `{}`)
	if _, _, err := h.place(t, "", "debian:13").Resolve(t.Context()); api.CodeOf(err) != api.NotFound || !strings.Contains(err.Error(), "docker.io has no docker.io/library/debian:13") {
		t.Errorf("no such tag: %v", err)
	}
	h.mu.Lock()
	h.limits = 9
	h.mu.Unlock()
	if _, _, err := h.place(t, "", "debian:12").Resolve(t.Context()); api.CodeOf(err) != api.Unavailable || !strings.Contains(err.Error(), "docker.io allows no more pulls for now") {
		t.Errorf("too many: %v", err)
	}
}

// A token holds for some minutes, a pull may take longer.
func TestATokenThatNoLongerHoldsIsReplaced(t *testing.T) {
	h := newHub(t)
	d := h.images.Push(t, "library/debian", "12", imagetest.Of([]imagetest.Entry{imagetest.File("a", "")}))
	account(t, `{}`)
	p := h.place(t, "", "debian:12")
	if _, _, err := p.Resolve(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	h.token++
	h.mu.Unlock()
	body, _, err := p.OpenFrom(t.Context(), ocispec.Descriptor{Digest: d.Digest, Size: d.Size}, 0)
	if err != nil {
		t.Fatal(err)
	}
	body.Close()
	if all := h.requests(); !slices.Contains(all[3:], tokenFor) {
		t.Errorf("asked: %q", all)
	}
}

func TestAMirrorOfDockerHubNeedsNoToken(t *testing.T) {
	h, mirror := newHub(t), imagetest.NewRegistry(t)
	d := mirror.Push(t, "hub/library/debian", "12", imagetest.Of([]imagetest.Entry{imagetest.File("a", "")}))
	account(t, `{"auths": {"https://index.docker.io/v1/": {"auth": "dXNlcjpwYXNzd29yZA=="}}}`)
	path := config(t, fmt.Sprintf(`{"insecure": [%q], "mirrors": {"docker.io": [%q]}}`, mirror.Host, mirror.Host+"/hub"))
	got, _, err := h.place(t, path, "debian:12").Resolve(t.Context())
	if err != nil || got.Digest != d.Digest {
		t.Errorf("%+v, %v", got, err)
	}
	if all := h.requests(); len(all) != 0 {
		t.Errorf("the hub was asked: %q", all)
	}
}

func TestRedirectionsToPrivatePlacesAreRefused(t *testing.T) {
	for to, follow := range map[string]bool{
		"https://cdn.example/x": true, "https://hub.example:444/x": true, "https://8.8.8.8/x": true, "https://[2001:4860::8888]/x": true,
		"https://127.0.0.1/x": false, "https://10.1.2.3/x": false, "https://169.254.169.254/x": false, "https://[::1]/x": false,
		"https://[fe80::1]/x": false, "https://[::ffff:10.0.0.1]/x": false, "https://0.0.0.0/x": false, "https://2130706433/x": false,
		"https://0x7f000001/x": false, "https://127.1/x": false, "https://127.0.0.1./x": false, "https://010.0.0.1/x": false,
	} {
		first, err := http.NewRequest(http.MethodGet, "https://hub.example/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		next, err := http.NewRequest(http.MethodGet, to, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := registry.Followed(next, []*http.Request{first}); (err == nil) != follow {
			t.Errorf("%s: %v, follow %v", to, err, follow)
		}
	}
	first := &http.Request{URL: &url.URL{Host: "hub.example"}}
	if err := registry.Followed(first, slices.Repeat([]*http.Request{first}, 11)); api.CodeOf(err) != api.Unavailable {
		t.Errorf("round and round: %v", err)
	}
}
