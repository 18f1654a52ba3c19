package api

import (
	"context"
	"os"
	"time"
)

// Image is what a client sees of an image.
type Image struct {
	// Digest names the image for good: sha256: and 64 hexadecimal digits.
	Digest string `json:"digest"`
	// Names are those that it has, sorted, such as
	// docker.io/library/debian:12.
	Names []string `json:"names,omitempty"`
	// Size is the length of the disk that machines share, PackedSize that of
	// what was pulled or loaded; 0 where the image is read from a layout on
	// disk. Both are bytes.
	Size       int64 `json:"size"`
	PackedSize int64 `json:"packed_size,omitempty"`
	Layers     int   `json:"layers,omitempty"`
	// CreatedAt is when the disk was made.
	CreatedAt time.Time `json:"created_at"`
	// Base is set for the image that instances have without another one.
	Base bool `json:"base,omitempty"`
	// What the image says of its programs.
	Env        []string `json:"env,omitempty"`
	Entrypoint []string `json:"entrypoint,omitempty"`
	Command    []string `json:"command,omitempty"`
	Workdir    string   `json:"workdir,omitempty"`
	User       string   `json:"user,omitempty"`
	// UsedBy are the handles, or the ids, of the instances that have it.
	UsedBy []string `json:"used_by,omitempty"`
}

// PullPolicy says when the registry is asked for an image.
type PullPolicy string

// The policies. The empty one is PullMissing.
const (
	PullMissing PullPolicy = "missing" // when the name is not known here
	PullAlways  PullPolicy = "always"  // each time; what has not changed is not brought again
	PullNever   PullPolicy = "never"
)

// Check refuses a word that is no policy.
func (p PullPolicy) Check() error {
	switch p {
	case "", PullMissing, PullAlways, PullNever:
		return nil
	}
	return Errorf(InvalidArgument, "pull policy %.80q: expected missing, always or never", string(p))
}

// ImageProgress is told while an image is pulled or loaded: a stage
// (resolving, downloading, building, ready) and, where Total is not 0, how
// many of how many bytes are done.
type ImageProgress struct {
	Stage string `json:"stage"`
	Done  int64  `json:"done,omitempty"`
	Total int64  `json:"total,omitempty"`
}

// Images is the part of Aegis that keeps images. REF is a name, with the
// defaults of Docker (debian means docker.io/library/debian:latest), or a
// digest.
type Images interface {
	// ListImages tells all images, by name.
	ListImages(ctx context.Context) ([]Image, error)
	ImageInfo(ctx context.Context, ref string) (Image, error)
	// PullImage makes sure that an image is here. progress may be nil; it is
	// called in order and must not block. The work ends with ctx.
	PullImage(ctx context.Context, ref string, policy PullPolicy, progress func(ImageProgress)) (Image, error)
	// TagImage gives an image another name, and takes it from whichever has
	// it.
	TagImage(ctx context.Context, ref, name string) (Image, error)
	// RemoveImage takes a name from an image. One that loses its last name, or
	// is given by its digest, goes, unless an instance has it: BadState names
	// the instance.
	RemoveImage(ctx context.Context, ref string) error
	// PruneImages removes every image that no instance has, but the base
	// image, and tells which.
	PruneImages(ctx context.Context) ([]Image, error)
	// LoadImage keeps the images of a tar with an OCI layout or of docker
	// save, compressed or not, a file or a pipe. Where descriptors travel it may
	// be the directory of an OCI layout that the image store may read. name, if
	// not empty, is given to the one image that there must be then.
	LoadImage(ctx context.Context, archive *os.File, name string) ([]Image, error)
	// SaveImage writes images as the tar of an OCI layout.
	SaveImage(ctx context.Context, refs []string, to *os.File) error
}
