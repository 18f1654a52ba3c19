// Package imagetest has what tests of images need: it writes OCI layouts,
// hostile ones included, and holds the contract that every image.Store must
// keep. It is for tests only.
package imagetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Entry is an entry of a layer.
type Entry struct {
	tar.Header
	Body string
}

// When is the modification time of all entries made here.
var When = time.Unix(1_600_000_000, 0)

// File is a regular file of mode 0644.
func File(name, body string) Entry {
	return Entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(body)), ModTime: When}, body}
}

// Dir is a directory of mode 0755.
func Dir(name string) Entry {
	return Entry{tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755, ModTime: When}, ""}
}

// Symlink is a symbolic link.
func Symlink(name, target string) Entry {
	return Entry{tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777, ModTime: When}, ""}
}

// Link is a hard link.
func Link(name, target string) Entry {
	return Entry{tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644, ModTime: When}, ""}
}

// With changes the entry's header.
func (e Entry) With(change func(*tar.Header)) Entry {
	change(&e.Header)
	return e
}

// Xattr gives the entry an extended attribute.
func (e Entry) Xattr(name, value string) Entry {
	records := map[string]string{"SCHILY.xattr." + name: value}
	for k, v := range e.PAXRecords {
		records[k] = v
	}
	e.PAXRecords = records
	return e
}

// Tar is the tar stream of a layer.
func Tar(tb testing.TB, entries ...Entry) []byte {
	tb.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		if err := w.WriteHeader(&e.Header); err != nil {
			tb.Fatalf("entry %q: %v", e.Name, err)
		}
		if _, err := w.Write([]byte(e.Body)); err != nil {
			tb.Fatalf("entry %q: %v", e.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

// Layer is one layer of an image. Stream is its tar stream, else Entries are;
// Compression is "", "gzip" or "zstd".
type Layer struct {
	Entries     []Entry
	Stream      []byte
	Compression string
}

// Image describes an image.
type Image struct {
	Layers []Layer
	Config ocispec.ImageConfig
	// Arch is the architecture, by default this machine's; Tag may be empty.
	Arch, Tag string
}

// Of is an image with the given layers, uncompressed.
func Of(layers ...[]Entry) Image {
	var img Image
	for _, entries := range layers {
		img.Layers = append(img.Layers, Layer{Entries: entries})
	}
	return img
}

// Layout writes a layout with the images and returns its directory.
func Layout(tb testing.TB, images ...Image) string {
	tb.Helper()
	dir := tb.TempDir()
	var index ocispec.Index
	for _, img := range images {
		index.Manifests = append(index.Manifests, Put(tb, dir, img))
	}
	PutIndex(tb, dir, index)
	return dir
}

// Put writes the blobs of an image into a layout.
func Put(tb testing.TB, dir string, img Image) ocispec.Descriptor {
	tb.Helper()
	if img.Arch == "" {
		img.Arch = runtime.GOARCH
	}
	c := ocispec.Image{Config: img.Config, Platform: ocispec.Platform{OS: "linux", Architecture: img.Arch}}
	var m ocispec.Manifest
	for _, l := range img.Layers {
		stream := l.Stream
		if stream == nil {
			stream = Tar(tb, l.Entries...)
		}
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, Digest(stream))
		packed, mediaType := compress(tb, l.Compression, stream)
		m.Layers = append(m.Layers, PutBlob(tb, dir, mediaType, packed))
	}
	m.Config = PutJSON(tb, dir, ocispec.MediaTypeImageConfig, c)
	return PutManifest(tb, dir, m, img.Arch, img.Tag)
}

// PutManifest writes a manifest.
func PutManifest(tb testing.TB, dir string, m ocispec.Manifest, arch, tag string) ocispec.Descriptor {
	tb.Helper()
	m.Versioned, m.MediaType = specs.Versioned{SchemaVersion: 2}, ocispec.MediaTypeImageManifest
	d := PutJSON(tb, dir, ocispec.MediaTypeImageManifest, m)
	d.Platform = &ocispec.Platform{OS: "linux", Architecture: arch}
	if tag != "" {
		d.Annotations = map[string]string{ocispec.AnnotationRefName: tag}
	}
	return d
}

func compress(tb testing.TB, how string, stream []byte) ([]byte, string) {
	tb.Helper()
	var buf bytes.Buffer
	switch how {
	case "gzip":
		w := gzip.NewWriter(&buf)
		w.Write(stream)
		if err := w.Close(); err != nil {
			tb.Fatal(err)
		}
		return buf.Bytes(), ocispec.MediaTypeImageLayerGzip
	case "zstd":
		w, err := zstd.NewWriter(&buf)
		if err != nil {
			tb.Fatal(err)
		}
		w.Write(stream)
		if err := w.Close(); err != nil {
			tb.Fatal(err)
		}
		return buf.Bytes(), ocispec.MediaTypeImageLayerZstd
	default:
		return stream, ocispec.MediaTypeImageLayer
	}
}

// Digest is the digest of data.
func Digest(data []byte) digest.Digest {
	sum := sha256.Sum256(data)
	return digest.Digest("sha256:" + hex.EncodeToString(sum[:]))
}

// PutBlob writes a blob.
func PutBlob(tb testing.TB, dir, mediaType string, data []byte) ocispec.Descriptor {
	tb.Helper()
	d := ocispec.Descriptor{MediaType: mediaType, Digest: Digest(data), Size: int64(len(data))}
	write(tb, BlobPath(dir, d), data)
	return d
}

// BlobPath is where a blob lies.
func BlobPath(dir string, d ocispec.Descriptor) string {
	return filepath.Join(dir, "blobs/sha256", d.Digest.Encoded())
}

// PutJSON writes a blob that is a JSON document.
func PutJSON(tb testing.TB, dir, mediaType string, doc any) ocispec.Descriptor {
	tb.Helper()
	data, err := json.Marshal(doc)
	if err != nil {
		tb.Fatal(err)
	}
	return PutBlob(tb, dir, mediaType, data)
}

// PutIndex writes index.json.
func PutIndex(tb testing.TB, dir string, index ocispec.Index) {
	tb.Helper()
	index.Versioned, index.MediaType = specs.Versioned{SchemaVersion: 2}, ocispec.MediaTypeImageIndex
	data, err := json.Marshal(index)
	if err != nil {
		tb.Fatal(err)
	}
	write(tb, filepath.Join(dir, "index.json"), data)
	write(tb, filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`))
}

func write(tb testing.TB, name string, data []byte) {
	tb.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o644); err != nil {
		tb.Fatal(err)
	}
}
