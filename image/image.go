// Package image owns images and disks: it turns an image reference into one
// read-only EROFS disk per digest, shared by all machines, and makes, keeps
// and deletes the writable disks of instances. Only it parses image tarballs;
// it runs nothing of an image and writes no file of an image to a host path.
package image

import (
	"context"
	"os"
)

// Image is a prepared image.
type Image struct {
	// Ref is what was asked for, Digest the manifest's sha256:... digest,
	// which names the disk.
	Ref    string `json:"ref"`
	Digest string `json:"digest"`
	// Size is the length of the disk's content in bytes.
	Size int64 `json:"size"`
	// Config is what the image says of its programs.
	Config Config `json:"config"`
}

// Config is the part of an OCI image configuration that we honour.
type Config struct {
	Env        []string `json:"env,omitempty"` // KEY=VALUE
	Entrypoint []string `json:"entrypoint,omitempty"`
	Cmd        []string `json:"cmd,omitempty"`
	Workdir    string   `json:"workdir,omitempty"`
	User       string   `json:"user,omitempty"`
}

// Progress is told while an image is prepared: a stage ("resolving",
// "downloading", "building", "ready") and, where known, how many of how many bytes are done.
type Progress struct {
	Stage       string `json:"stage"`
	Done, Total int64
}

// DiskSize is the virtual size in bytes of every image disk, and of a writable
// disk of which nobody said another. It is constant, the files being sparse,
// so that a machine restored from a template may be given another disk.
const DiskSize = 16 << 30

// The bounds of a writable disk: the least holds a journal and something to
// work with, the most is far below what one file of ext4, XFS or btrfs can be.
const (
	MinDisk = 256 << 20
	MaxDisk = 1 << 40
)

// Store keeps images and disks. Errors are *api.Error: NotFound for an image
// that is not there, InvalidArgument for one that is broken, LimitExceeded
// when the disk is full.
type Store interface {
	// Prepare makes sure that the image's disk exists. ref is empty for the
	// base image, "oci:PATH[:TAG]" or an absolute PATH of an OCI layout, or
	// the digest or the name of an image that is here. progress may be nil; it
	// is called in order and must not block.
	Prepare(ctx context.Context, ref string, progress func(Progress)) (Image, error)
	// Open opens the disk of a prepared image read-only.
	Open(ctx context.Context, digest string) (*os.File, error)
	// CreateDisk makes the writable disk named id, an empty ext4 of size bytes,
	// whole MiB from MinDisk to MaxDisk; Exists if there is one. The file is
	// sparse: it takes what is written to it.
	CreateDisk(ctx context.Context, id string, size int64) error
	// OpenDisk opens a writable disk read-write.
	OpenDisk(ctx context.Context, id string) (*os.File, error)
	// DeleteDisk deletes a writable disk; one that is not there is no error.
	DeleteDisk(ctx context.Context, id string) error
	// Disks tells the names of the writable disks.
	Disks(ctx context.Context) ([]string, error)

	Library
}
