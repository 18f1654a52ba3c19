package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/xfeldman/aegisvm/api"
)

// conn is a repository that has let us in: the library's reader of manifests,
// and a client for blobs, because that reader knows no ranges.
type conn struct {
	puller *remote.Puller
	blobs  *http.Client
}

// connect logs in, once.
func (r *Repository) connect(ctx context.Context) (*conn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn != nil {
		return r.conn, nil
	}
	auth, err := authn.Resolve(ctx, r.keychain, r.ref.Context())
	if err != nil {
		return nil, err
	}
	via, err := transport.NewWithContext(ctx, r.ref.Context().Registry, auth, r.transport, []string{r.ref.Context().Scope(transport.PullScope)})
	if err != nil {
		return nil, err
	}
	puller, err := remote.NewPuller(remote.WithTransport(via))
	if err != nil {
		return nil, err
	}
	r.conn = &conn{puller, &http.Client{Transport: via, CheckRedirect: followed}}
	return r.conn, nil
}

// OpenFrom reads the rest of a blob from a byte on, or, where the registry
// knows no ranges or gives another one, the blob from its beginning: from is
// where what is read begins. Manifests and indexes come whole. The caller checks
// size and digest.
func (r *Repository) OpenFrom(ctx context.Context, d ocispec.Descriptor, at int64) (body io.ReadCloser, from int64, err error) {
	if isDocument(d) {
		body, err := r.document(ctx, r.ref.Context().Digest(string(d.Digest)))
		return body, 0, err
	}
	resp, err := r.ask(ctx, d, at)
	if err == nil && at > 0 && resp.StatusCode != http.StatusOK && !isRest(resp, at, d.Size) {
		resp.Body.Close()
		at = 0
		resp, err = r.ask(ctx, d, at)
	}
	if err != nil {
		return nil, 0, r.failure(err)
	}
	if resp.StatusCode == http.StatusOK {
		at = 0
	} else if at == 0 || resp.StatusCode != http.StatusPartialContent {
		err := transport.CheckError(resp, http.StatusOK)
		resp.Body.Close()
		return nil, 0, r.failure(err)
	}
	return &blob{resp.Body, r}, at, nil
}

// ask asks for a blob from a byte on.
func (r *Repository) ask(ctx context.Context, d ocispec.Descriptor, at int64) (*http.Response, error) {
	c, err := r.connect(ctx)
	if err != nil {
		return nil, err
	}
	repo := r.ref.Context()
	place := url.URL{Scheme: repo.Scheme(), Host: repo.RegistryStr(), Path: "/v2/" + repo.RepositoryStr() + "/blobs/" + string(d.Digest)}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, place.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept-Encoding", "identity") // digests and ranges are of the bytes themselves
	if at > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", at, d.Size-1))
	}
	resp, err := c.blobs.Do(req)
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err // the address may be signed
	}
	return resp, err
}

// isRest tells whether an answer is the blob from the byte at on.
func isRest(resp *http.Response, at, size int64) bool {
	text := resp.Header.Get("Content-Range")
	exactly := fmt.Sprintf("bytes %d-%d/", at, size-1)
	return resp.StatusCode == http.StatusPartialContent && (text == exactly+"*" || text == fmt.Sprint(exactly, size))
}

// blob makes the errors of reading ours.
type blob struct {
	io.ReadCloser
	repository *Repository
}

func (b *blob) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = b.repository.failure(err)
	}
	return n, err
}

// maxRedirects is how many times a registry may send us elsewhere.
const maxRedirects = 10

// followed refuses to be sent from a public place to a private address.
func followed(req *http.Request, via []*http.Request) error {
	host := req.URL.Hostname()
	switch {
	case len(via) > maxRedirects:
		return api.Errorf(api.Unavailable, "%s: more than %d redirections", via[0].URL.Host, maxRedirects)
	case host != via[0].URL.Hostname() && isPrivate(host):
		return api.Errorf(api.Unavailable, "%s sends us to %.100q, a private or link-local address: refused", via[0].URL.Host, host)
	}
	return nil
}

// isPrivate tells whether a host is such an address. What ends in a number is
// an address in one of its old spellings.
func isPrivate(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		addr = addr.Unmap()
		return !addr.IsGlobalUnicast() || addr.IsPrivate()
	}
	last := host[strings.LastIndex(strings.TrimSuffix(host, "."), ".")+1:]
	return last == "" || last[0] >= '0' && last[0] <= '9'
}
