package api

import "context"

// CopyFromSpec is a file or folder of an instance that a client wants.
type CopyFromSpec struct {
	// Path of it, from the instance's root on; its symbolic links lead nowhere
	// else. It is one entry of a tar archive, called by the last part of the
	// path, with what is below it; a path that ends in "/." gives what is below
	// only.
	Path string `json:"path"`
	// FollowLink gives what a symbolic link at path leads to instead of the link.
	FollowLink bool `json:"follow_link,omitempty"`
}

// CopyToSpec is where an instance gets files of a client.
type CopyToSpec struct {
	// Path is a folder, to copy into it; a file, to replace it; or the new name
	// of what is copied, in a folder that is there.
	Path string `json:"path"`
	// Extract unpacks the archive in the folder Path as it is. Without it the
	// archive has one entry, with what is below that.
	Extract bool `json:"extract,omitempty"`
	// Owner keeps the numbers of owners and groups in the archive; without it
	// all that is copied is root's.
	Owner bool `json:"owner,omitempty"`
}

// Copies is the part of Aegis that copies files, as tar archives, from and to
// instances that run. NotFound says that there is no such file.
type Copies interface {
	// CopyFrom hands out the archive as Stdout. Status tells how it went when
	// all is written: code 0, or 1 with a message about what the archive lacks,
	// and as much of Output.Stdout as there is to read.
	CopyFrom(ctx context.Context, ref string, spec CopyFromSpec) (*Streams, error)
	// CopyTo hands out Stdin to write the archive to, and to end. Status tells
	// how it went: code 0, or 1 with a message. It may come before all is
	// written, when the rest is not wanted.
	CopyTo(ctx context.Context, ref string, spec CopyToSpec) (*Streams, error)
}
