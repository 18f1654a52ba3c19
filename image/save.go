package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/image/registry"
)

// Save implements Library. The same images make the same bytes. What is
// damaged is found before its bytes are out.
func (s *Local) Save(ctx context.Context, refs []string, to *os.File) error {
	if len(refs) == 0 {
		return api.Errorf(api.InvalidArgument, "no image to save: expected names or digests")
	}
	release, err := s.use(ctx)
	if err != nil {
		return failure(err)
	}
	defer release()
	err = withStream(ctx, to, func(to *os.File) error { return s.save(ctx, refs, to) })
	if err != nil {
		return failure(fmt.Errorf("save images: %w", err))
	}
	return nil
}

func (s *Local) save(ctx context.Context, refs []string, to *os.File) error {
	l, err := openLayout(s.oci, s.arch)
	if err != nil {
		return err
	}
	defer l.Close()
	idx := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	var blobs []ocispec.Descriptor
	for _, ref := range refs {
		d, err := s.descriptor(ref)
		if err != nil {
			return err
		}
		src, m, err := s.sourceOf(ctx, l, d)
		if err != nil {
			return err
		}
		if err := src.verify(ctx, nil); err != nil {
			return err
		}
		blobs = append(append(blobs, d, m.Config), m.Layers...)
		idx.Manifests = append(idx.Manifests, annotated(d))
	}
	w := tar.NewWriter(to)
	if err := writeLayout(ctx, w, l, idx, blobs); err != nil {
		return err
	}
	return w.Close()
}

func (s *Local) sourceOf(ctx context.Context, l *layout, d ocispec.Descriptor) (*source, ocispec.Manifest, error) {
	m, err := s.manifest(ctx, d)
	if err != nil {
		return nil, m, err
	}
	src, err := l.source(ctx, d, s.limits)
	return src, m, err
}

// annotated names an image as others do: the tag where the OCI wants it, the
// whole name beside.
func annotated(d ocispec.Descriptor) ocispec.Descriptor {
	name := nameOf(d)
	d.Annotations = nil
	if n, err := registry.Parse(name); name != "" && err == nil {
		d.Annotations = map[string]string{nameAnnotation: name}
		if n.Tag() != "" {
			d.Annotations[ocispec.AnnotationRefName] = n.Tag()
		}
	}
	return d
}

func writeLayout(ctx context.Context, w *tar.Writer, l *layout, idx ocispec.Index, blobs []ocispec.Descriptor) error {
	index, err := json.Marshal(idx)
	if err != nil {
		return err
	}
	for _, doc := range []struct {
		name string
		body []byte
	}{
		{ocispec.ImageLayoutFile, []byte(`{"imageLayoutVersion":"` + ocispec.ImageLayoutVersion + `"}`)},
		{ocispec.ImageIndexFile, index},
	} {
		if err := entryHeader(w, doc.name, int64(len(doc.body))); err != nil {
			return err
		}
		if _, err := w.Write(doc.body); err != nil {
			return err
		}
	}
	var written []digest.Digest
	for _, d := range blobs {
		if slices.Contains(written, d.Digest) {
			continue
		}
		written = append(written, d.Digest)
		if err := writeBlob(ctx, w, l, d); err != nil {
			return err
		}
	}
	return nil
}

func writeBlob(ctx context.Context, w *tar.Writer, l *layout, d ocispec.Descriptor) error {
	r, err := l.blob(ctx, "blob", d)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := entryHeader(w, "blobs/sha256/"+d.Digest.Encoded(), d.Size); err != nil {
		return err
	}
	_, err = io.CopyN(w, &progressReader{ctx: ctx, r: r}, d.Size)
	return err
}

func entryHeader(w *tar.Writer, name string, size int64) error {
	return w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size})
}
