package image

import (
	"bytes"
	"context"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/image/registry"
)

// Pull implements Library. Callers that want the same name at once share the
// work.
func (s *Local) Pull(ctx context.Context, ref string, policy api.PullPolicy, report func(Progress)) (Image, error) {
	if err := policy.Check(); err != nil {
		return Image{}, err
	}
	n, err := registry.Parse(ref)
	if err != nil {
		return Image{}, err
	}
	p := &progress{report: report}
	img, err := s.pullOnce(ctx, n, policy, p)
	if err != nil {
		return Image{}, failure(about(n.String(), err))
	}
	img.Ref = ref
	p.stage(StageReady)
	return img, nil
}

func (s *Local) pullOnce(ctx context.Context, n registry.Name, policy api.PullPolicy, p *progress) (Image, error) {
	unlock, err := s.digests.lock(ctx, "name "+n.String())
	if err != nil {
		return Image{}, err
	}
	defer unlock()
	if policy != api.PullAlways {
		img, err := s.named(ctx, n.String(), p)
		if policy == api.PullNever || api.CodeOf(err) != api.NotFound {
			return img, err
		}
	}
	release, err := s.use(ctx)
	if err != nil {
		return Image{}, err
	}
	defer release()
	return s.pull(ctx, n, p)
}

// pull asks the mirrors, then the registry.
func (s *Local) pull(ctx context.Context, n registry.Name, p *progress) (img Image, err error) {
	places, err := s.registry.Repositories(n)
	if err != nil {
		return Image{}, err
	}
	for i, place := range places {
		img, err = s.pullFrom(ctx, n, place, p)
		if err == nil || ctx.Err() != nil || full(err) || api.CodeOf(err) == api.LimitExceeded {
			return img, err
		}
		if i+1 < len(places) {
			s.log.Warn("mirror failed", "image", n.String(), "mirror", place.Host(), "error", err)
		}
	}
	return Image{}, err
}

func (s *Local) pullFrom(ctx context.Context, n registry.Name, place *registry.Repository, p *progress) (Image, error) {
	p.stage(StageResolving)
	root, document, err := place.Resolve(ctx)
	if err != nil {
		return Image{}, err
	}
	if root.Size > maxDocument {
		return Image{}, beyond("its manifest has %d bytes, at most %d are read", root.Size, maxDocument)
	}
	if err := s.put(ctx, "manifest", root, bytes.NewReader(document)); err != nil {
		return Image{}, err
	}
	img, d, err := s.acquire(ctx, root, s.fromRegistry(place, p))
	if err != nil {
		return Image{}, err
	}
	return img, s.setName(ctx, d, n.String())
}

// acquire keeps the image for our platform that root leads to, and builds its
// disk. The caller has s.use, so that nothing of it is collected before it has
// a name.
func (s *Local) acquire(ctx context.Context, root ocispec.Descriptor, in *intake) (Image, ocispec.Descriptor, error) {
	l, err := openLayout(s.oci, s.arch)
	if err != nil {
		return Image{}, root, err
	}
	defer l.Close()
	l.obtain = in.obtain
	d, err := l.choose(ctx, root)
	if err != nil {
		return Image{}, d, err
	}
	if img, err := s.prepared(string(d.Digest)); err == nil && s.complete(ctx, d) {
		return img, d, nil
	}
	src, err := l.source(ctx, d, s.limits)
	if err != nil {
		return Image{}, d, err
	}
	if err := src.download(ctx, in); err != nil {
		return Image{}, d, err
	}
	l.obtain = nil // all is there
	img, err := s.make(ctx, src, in.p)
	return img, d, err
}

// choose follows root to the one manifest for our platform. Of several
// variants of it, the plain one works everywhere.
func (l *layout) choose(ctx context.Context, root ocispec.Descriptor) (ocispec.Descriptor, error) {
	switch root.MediaType {
	case ocispec.MediaTypeImageManifest, dockerManifest, ocispec.MediaTypeImageIndex, dockerIndex:
	default:
		return root, broken("has the media type %.100q: expected an OCI or Docker image", root.MediaType)
	}
	found, err := l.flatten(ctx, []ocispec.Descriptor{root}, maxNesting)
	if err != nil {
		return root, err
	}
	if len(found) == 0 {
		return root, broken("holds no image for linux/%s", l.arch)
	}
	for _, d := range found {
		if d.Platform == nil || d.Platform.Variant == "" {
			return d, nil
		}
	}
	return found[0], nil
}

// complete tells whether all blobs of an image are kept.
func (s *Local) complete(ctx context.Context, d ocispec.Descriptor) bool {
	l, err := openLayout(s.oci, s.arch)
	if err != nil {
		return false
	}
	defer l.Close()
	src, err := l.source(ctx, d, s.limits)
	if err != nil {
		return false
	}
	for _, layer := range src.layers {
		if !s.has(layer) {
			return false
		}
	}
	return true
}

// download brings all layers, several at once.
func (s *source) download(ctx context.Context, in *intake) error {
	total, limit := int64(0), in.store.limits.Packed
	for i, l := range s.layers {
		switch {
		case l.Size < 0:
			return broken("%s has %d bytes", s.name(i), l.Size)
		case l.Size > limit-total:
			return beyond("has layers of more than %d bytes", limit)
		case !digestPattern.MatchString(string(l.Digest)):
			return broken("%s has the digest %.100q: expected sha256: and 64 hexadecimal digits", s.name(i), l.Digest)
		}
		total += l.Size
	}
	if err := in.store.trimPartials(limit); err != nil {
		return err
	}
	in.p.begin(StageDownloading, total)
	in.counting = true
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(registry.Jobs)
	for i, l := range s.layers {
		g.Go(func() error { return in.obtain(ctx, s.name(i), l) })
	}
	return g.Wait()
}
