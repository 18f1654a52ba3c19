package restapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"syscall"

	"github.com/xfeldman/aegisvm/api"
)

// PullImage implements api.Aegis.
func (c *Client) PullImage(ctx context.Context, ref string, policy api.PullPolicy, progress func(api.ImageProgress)) (api.Image, error) {
	req, err := newRequest(ctx, http.MethodPost, "/v1/images/pull", pullRequest{ref, policy})
	if err != nil {
		return api.Image{}, err
	}
	resp, err := c.ask(req)
	if err != nil {
		return api.Image{}, err
	}
	defer resp.Body.Close()
	for d := json.NewDecoder(resp.Body); ; {
		var l pullLine
		switch err := d.Decode(&l); {
		case err != nil:
			return api.Image{}, c.transport(ctx, err)
		case l.Error != "":
			return api.Image{}, &api.Error{Code: l.Code, Message: l.Error}
		case l.Image != nil:
			return *l.Image, nil
		case progress != nil:
			progress(l.ImageProgress)
		}
	}
}

// LoadImage implements api.Aegis. A directory has no bytes to send.
func (c *Client) LoadImage(ctx context.Context, archive *os.File, name string) (all []api.Image, err error) {
	if st, err := archive.Stat(); err != nil || st.IsDir() {
		return nil, api.Errorf(api.InvalidArgument, "load images: %s is a directory: send a tar of it", archive.Name())
	}
	path := "/v1/images/load?" + url.Values{"name": {name}}.Encode()
	req, err := newRequest(ctx, http.MethodPost, path, nil)
	if err != nil {
		return nil, err
	}
	req.Body = io.NopCloser(archive)
	resp, err := c.ask(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
		return nil, c.transport(ctx, err)
	}
	return all, nil
}

// SaveImage implements api.Aegis.
func (c *Client) SaveImage(ctx context.Context, refs []string, to *os.File) error {
	req, err := newRequest(ctx, http.MethodPost, "/v1/images/save", saveRequest{refs})
	if err != nil {
		return err
	}
	resp, err := c.ask(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(writing{to}, resp.Body); err != nil {
		var ours writeError
		if errors.As(err, &ours) {
			return api.Errorf(api.InvalidArgument, "save images: %w", ours.error)
		}
		return c.transport(ctx, err)
	}
	return nil
}

// writing tells its errors from those of the reader that it is copied from.
type writing struct{ *os.File }

type writeError struct{ error }

func (w writing) Write(p []byte) (int, error) {
	n, err := w.File.Write(p)
	if err != nil {
		err = writeError{err}
	}
	return n, err
}

// ReadFrom is not os.File's: that would hide who failed.
func (w writing) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{w}, r)
}

func isBrokenPipe(err error) bool { return errors.Is(err, syscall.EPIPE) }
