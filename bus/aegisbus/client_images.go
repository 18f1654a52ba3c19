package aegisbus

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
)

// How long calls may take that write to the disk, and those that bring or
// build an image.
const (
	imageTimeout = 3 * time.Minute
	pullTimeout  = time.Hour
)

// ListImages implements api.Aegis.
func (c *Client) ListImages(ctx context.Context) ([]api.Image, error) {
	return list[api.Image](ctx, c, "ListImages")
}

// ImageInfo implements api.Aegis.
func (c *Client) ImageInfo(ctx context.Context, ref string) (api.Image, error) {
	return c.image(ctx, "GetImage", bus.Args{ref})
}

// TagImage implements api.Aegis.
func (c *Client) TagImage(ctx context.Context, ref, name string) (api.Image, error) {
	return c.image(ctx, "TagImage", bus.Args{ref, name})
}

func (c *Client) image(ctx context.Context, member string, args bus.Args) (img api.Image, err error) {
	ctx, cancel := context.WithTimeout(ctx, imageTimeout)
	defer cancel()
	var d bus.Dict
	if err := c.call(ctx, member, args, &d); err != nil {
		return img, err
	}
	return img, fromDict(d, &img)
}

// RemoveImage implements api.Aegis.
func (c *Client) RemoveImage(ctx context.Context, ref string) error {
	ctx, cancel := context.WithTimeout(ctx, imageTimeout)
	defer cancel()
	return c.call(ctx, "RemoveImage", bus.Args{ref})
}

// PruneImages implements api.Aegis.
func (c *Client) PruneImages(ctx context.Context) ([]api.Image, error) {
	ctx, cancel := context.WithTimeout(ctx, imageTimeout)
	defer cancel()
	return list[api.Image](ctx, c, "PruneImages")
}

// PullImage implements api.Aegis. The work ends when ctx does.
func (c *Client) PullImage(ctx context.Context, ref string, policy api.PullPolicy, progress func(api.ImageProgress)) (api.Image, error) {
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	ours, theirs, err := streamPair()
	if err != nil {
		return api.Image{}, api.Errorf(api.Internal, "making a session: %w", err)
	}
	reported := make(chan struct{})
	go func() { // ends with ours, or with theirs when aegisd has it no more
		defer close(reported)
		report(ours, progress)
	}()
	var img api.Image
	var d bus.Dict
	err = c.call(ctx, "PullImage", bus.Args{ref, string(policy), theirs}, &d)
	theirs.Close()
	if err != nil {
		ours.Close()
	}
	<-reported // after it, progress is not called any more
	ours.Close()
	if err != nil {
		return img, err
	}
	return img, fromDict(d, &img)
}

// report tells what a session tells until it ends.
func report(session io.Reader, progress func(api.ImageProgress)) {
	for d := json.NewDecoder(session); ; {
		var p api.ImageProgress
		if d.Decode(&p) != nil {
			return
		}
		if progress != nil {
			progress(p)
		}
	}
}

// LoadImage implements api.Aegis. Files and directories are sent as they are.
func (c *Client) LoadImage(ctx context.Context, archive *os.File, name string) ([]api.Image, error) {
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	sent := archive
	if !plain(archive) {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, api.Errorf(api.Internal, "sending the archive: %w", err)
		}
		defer r.Close()
		go func() { // ends with the archive, or when nobody reads any more
			defer w.Close()
			io.Copy(w, archive)
		}()
		sent = r
	}
	var all []bus.Dict
	if err := c.call(ctx, "LoadImage", bus.Args{sent, name}, &all); err != nil {
		return nil, err
	}
	return read[api.Image](all)
}

// SaveImage implements api.Aegis. A file is sent as it is.
func (c *Client) SaveImage(ctx context.Context, refs []string, to *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	refs = append([]string{}, refs...)
	if plain(to) {
		return c.call(ctx, "SaveImage", bus.Args{refs, to})
	}
	r, w, err := os.Pipe()
	if err != nil {
		return api.Errorf(api.Internal, "receiving the archive: %w", err)
	}
	copied := make(chan error, 1)
	go func() { // ends with the archive, or when it cannot be written
		_, err := io.Copy(to, r)
		r.Close()
		copied <- err
	}()
	err = c.call(ctx, "SaveImage", bus.Args{refs, w})
	w.Close()
	if err != nil {
		return err
	}
	if err := <-copied; err != nil {
		return api.Errorf(api.InvalidArgument, "writing the archive: %w", err)
	}
	return nil
}

// plain tells whether a file may be handed over. A pipe is shared with others,
// such as the user's shell, and aegisd would make it non-blocking.
func plain(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && (st.Mode().IsRegular() || st.IsDir())
}
