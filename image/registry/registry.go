// Package registry speaks to image registries: it resolves names and reads
// manifests and blobs, with the user's credentials, through mirrors, and in
// plain HTTP only where that was configured by name. What a registry says is
// bounded here but not believed: digests are for the caller to verify. It
// touches no file but its configuration and Docker's.
package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/xfeldman/aegisvm/api"
)

// Options say how to speak to registries. Zero values mean the defaults.
type Options struct {
	// Config is the path of registries.json; it is read anew for each pull.
	Config string
	// Keychain has the credentials; the default is Docker's configuration with
	// its credential helpers.
	Keychain authn.Keychain
	// Patience is how long a registry may keep silent, default 1 min.
	Patience time.Duration
}

// Client speaks to registries.
type Client struct {
	config   string
	keychain authn.Keychain
	guard    *guard
}

// New makes a client.
func New(o Options) *Client {
	c := &Client{config: o.Config, keychain: o.Keychain, guard: newGuard(o.Patience)}
	if c.keychain == nil {
		c.keychain = authn.DefaultKeychain
	}
	return c
}

// Close closes idle connections.
func (c *Client) Close() { c.guard.close() }

// Repository is one place where an image may be: its registry or a mirror.
type Repository struct {
	ref       name.Reference
	keychain  authn.Keychain
	transport http.RoundTripper

	mu   sync.Mutex // guards the field below
	conn *conn
}

// Repositories are the places to look for an image, in order.
func (c *Client) Repositories(n Name) ([]*Repository, error) {
	conf, err := ReadConfig(c.config)
	if err != nil {
		return nil, err
	}
	var all []*Repository
	for _, place := range conf.places(n) {
		r, err := c.repository(conf, place, n)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// retries: once more after a moment for what a busy registry may answer. The
// caller tries blobs again by itself.
var (
	busy = []int{
		http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout,
	}
	retries = remote.Backoff{Duration: 300 * time.Millisecond, Factor: 2, Jitter: 0.1, Steps: 2}
)

// passing tells whether a failure may be over by now.
func passing(err error) bool {
	temporary, ok := errors.AsType[interface {
		error
		Temporary() bool
	}](err)
	return ok && temporary.Temporary() || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

func (c *Client) repository(conf Config, place string, n Name) (*Repository, error) {
	var opts []name.Option
	host, _, _ := strings.Cut(place, "/")
	if slices.Contains(conf.Insecure, host) {
		opts = append(opts, name.Insecure)
	}
	ref, err := n.at(place, opts...)
	if err != nil {
		return nil, api.Errorf(api.InvalidArgument, "image %s at %s: %w", n, place, err)
	}
	return &Repository{ref: ref, keychain: keychain{c.keychain}, transport: transport.NewUserAgent(
		transport.NewRetry(c.guard.with(conf.Insecure), transport.WithRetryBackoff(retries),
			transport.WithRetryStatusCodes(busy...), transport.WithRetryPredicate(passing)),
		"aegisvm/"+api.Version,
	)}, nil
}

// Jobs is how many blobs of an image are read at once.
const Jobs = 4

// Host is the registry that is asked.
func (r *Repository) Host() string { return Name{r.ref}.Registry() }

// Resolve asks for the manifest or index that the name means now.
func (r *Repository) Resolve(ctx context.Context) (ocispec.Descriptor, []byte, error) {
	d, err := r.get(ctx, r.ref)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	return ocispec.Descriptor{
		MediaType: string(d.MediaType), Digest: digest.Digest(d.Digest.String()), Size: int64(len(d.Manifest)),
	}, d.Manifest, nil
}

func (r *Repository) get(ctx context.Context, ref name.Reference) (*remote.Descriptor, error) {
	c, err := r.connect(ctx)
	if err != nil {
		return nil, r.failure(err)
	}
	d, err := c.puller.Get(ctx, ref)
	if err != nil {
		return nil, r.failure(err)
	}
	return d, nil
}

// document reads a manifest or index.
func (r *Repository) document(ctx context.Context, ref name.Reference) (io.ReadCloser, error) {
	d, err := r.get(ctx, ref)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(d.Manifest)), nil
}

// isDocument tells what is asked for as a manifest from what is a blob.
func isDocument(d ocispec.Descriptor) bool {
	return strings.Contains(d.MediaType, ".manifest.") || strings.Contains(d.MediaType, ".index.")
}

// keychain gives up waiting for a credential helper with the context.
type keychain struct{ authn.Keychain }

// ResolveContext implements authn.ContextKeychain.
func (k keychain) ResolveContext(ctx context.Context, target authn.Resource) (authn.Authenticator, error) {
	type answer struct {
		auth authn.Authenticator
		err  error
	}
	found := make(chan answer, 1)
	go func() { // ends with the helper
		auth, err := k.Resolve(target)
		found <- answer{auth, err}
	}()
	select {
	case a := <-found:
		if a.err != nil {
			return nil, api.Errorf(api.Unavailable, "credentials for %s: %s: see ~/.docker/config.json", target.RegistryStr(), oneLine(a.err.Error()))
		}
		return a.auth, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
