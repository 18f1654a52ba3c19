package image

import (
	"context"
	"os"
	"time"

	"github.com/xfeldman/aegisvm/api"
)

// Library is the part of Store that keeps images by their names, as an OCI
// layout of its own beside the disks that are made from it. A name is one of a
// registry (debian:12 means docker.io/library/debian:12); REF is a name or the
// digest of an image that is here.
type Library interface {
	// Pull makes sure that the disk of an image in a registry exists. policy
	// says when the registry is asked; api.PullNever never. What an earlier
	// pull brought is not brought again. Unavailable when a registry cannot be
	// reached or refuses, NotFound when it has no such image.
	Pull(ctx context.Context, ref string, policy api.PullPolicy, progress func(Progress)) (Image, error)
	// Load keeps the images of an OCI layout, a directory or a tar, or of a
	// docker-archive. A tar may be compressed, and a pipe. name, if not empty,
	// is given to the one image that there must be then; else images have the
	// names of the archive.
	Load(ctx context.Context, archive *os.File, name string, progress func(Progress)) ([]Info, error)
	// Save writes images as the tar of an OCI layout.
	Save(ctx context.Context, refs []string, to *os.File) error
	// Tag gives an image another name, and takes it from whichever has it.
	Tag(ctx context.Context, ref, name string) (Info, error)
	// List tells all images, by name.
	List(ctx context.Context) ([]Info, error)
	Info(ctx context.Context, ref string) (Info, error)
	// Remove takes a name from an image. An image that loses its last name, or
	// is given by its digest, goes with its disk; BadState when its digest is
	// among those in use.
	Remove(ctx context.Context, ref string, inUse []string) error
	// Prune removes all images but the base image and those in use, and tells
	// which.
	Prune(ctx context.Context, inUse []string) ([]Info, error)
}

// Info is what is known of an image.
type Info struct {
	Image
	// Names are those that it has, sorted.
	Names []string `json:"names,omitempty"`
	// Packed is the size in bytes of what was pulled or loaded, 0 for an image
	// that is read from a layout on disk.
	Packed int64 `json:"packed,omitempty"`
	Layers int   `json:"layers,omitempty"`
	// Prepared is when the disk was made.
	Prepared time.Time `json:"prepared"`
	// Base is set for the base image.
	Base bool `json:"base,omitempty"`
}
