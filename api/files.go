package api

import (
	"context"
	"os"
)

// MaxFile is how large a file may be that is read or written by Files.
const MaxFile = 10 << 20

// FileEntry is an entry of a folder in a workspace.
type FileEntry struct {
	Name  string `json:"name"`
	IsDir bool   `json:"is_dir"`
	Size  int64  `json:"size"`
}

// Blob is an image that was put in a workspace, called by its content.
type Blob struct {
	// Blob is its name in .aegis/blobs.
	Blob      string `json:"blob"`
	MediaType string `json:"media_type"`
	Size      int64  `json:"size"`
}

// Files is the part of Aegis that reads and writes the workspace of an
// instance, running or not, with the rights of the instance's owner; only that
// user and root may. Paths are relative to the workspace, and no symbolic link
// leads out of it. NotFound where the instance has no workspace, or the
// workspace no such file; InvalidArgument for what is no path or no regular
// file; Denied for what leads out; LimitExceeded beyond MaxFile. Data to write
// is a regular file, taken from its beginning to its end: the end of a pipe
// would not tell whether all has come.
type Files interface {
	// Tree tells the entries of a folder: folders first, then by name.
	Tree(ctx context.Context, who Caller, ref, path string) ([]FileEntry, error)
	// ReadFile opens a regular file for reading, at its beginning. The caller
	// closes it.
	ReadFile(ctx context.Context, who Caller, ref, path string) (*os.File, error)
	// WriteFile replaces a file, or makes it with the folders on the way, by
	// data, as a whole or not at all.
	WriteFile(ctx context.Context, who Caller, ref, path string, data *os.File) error
	// PutBlob keeps an image in .aegis/blobs. mediaType is image/png, jpeg, gif
	// or webp; empty is the first.
	PutBlob(ctx context.Context, who Caller, ref, mediaType string, data *os.File) (Blob, error)
}
