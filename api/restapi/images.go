package restapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"

	"github.com/xfeldman/aegisvm/api"
)

// pullRequest is the body of POST /v1/images/pull.
type pullRequest struct {
	Ref    string         `json:"ref"`
	Policy api.PullPolicy `json:"policy,omitempty"`
}

// pullLine is one line of the answer: progress, and at the end the image or
// an error.
type pullLine struct {
	api.ImageProgress
	Image *api.Image `json:"image,omitempty"`
	Code  api.Code   `json:"code,omitempty"`
	Error string     `json:"error,omitempty"`
}

// tagRequest is the body of POST /v1/images/{ref}/tag.
type tagRequest struct {
	Name string `json:"name"`
}

// saveRequest is the body of POST /v1/images/save.
type saveRequest struct {
	Refs []string `json:"refs"`
}

// imageRoutes are the endpoints of images.
func (s *Server) imageRoutes() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"GET /v1/images":            s.images,
		"GET /v1/images/{ref}":      s.imageInfo,
		"DELETE /v1/images/{ref}":   s.removeImage,
		"POST /v1/images/{ref}/tag": s.tagImage,
		"POST /v1/images/pull":      s.pullImage,
		"POST /v1/images/prune":     s.pruneImages,
		"POST /v1/images/load":      s.loadImage,
		"POST /v1/images/save":      s.saveImage,
	}
}

func (s *Server) images(w http.ResponseWriter, r *http.Request) {
	all, err := s.aegis.ListImages(r.Context())
	s.reply(w, http.StatusOK, append([]api.Image{}, all...), err)
}

func (s *Server) imageInfo(w http.ResponseWriter, r *http.Request) {
	img, err := s.aegis.ImageInfo(r.Context(), r.PathValue("ref"))
	s.reply(w, http.StatusOK, img, err)
}

func (s *Server) removeImage(w http.ResponseWriter, r *http.Request) {
	s.reply(w, http.StatusOK, done{"deleted"}, s.aegis.RemoveImage(r.Context(), r.PathValue("ref")))
}

func (s *Server) tagImage(w http.ResponseWriter, r *http.Request) {
	var req tagRequest
	if !s.decode(w, r, &req) {
		return
	}
	img, err := s.aegis.TagImage(r.Context(), r.PathValue("ref"), req.Name)
	s.reply(w, http.StatusOK, img, err)
}

func (s *Server) pruneImages(w http.ResponseWriter, r *http.Request) {
	removed, err := s.aegis.PruneImages(r.Context())
	s.reply(w, http.StatusOK, append([]api.Image{}, removed...), err)
}

// pullImage answers with lines as the work goes on; what fails before the
// first one has a status of its own.
func (s *Server) pullImage(w http.ResponseWriter, r *http.Request) {
	var req pullRequest
	if !s.decode(w, r, &req) {
		return
	}
	out, enc, begun := http.NewResponseController(w), json.NewEncoder(w), false
	line := func(l pullLine) {
		if !begun {
			w.Header().Set("Content-Type", "application/x-ndjson")
			w.WriteHeader(http.StatusOK)
			begun = true
		}
		if enc.Encode(l) == nil { // a client that has gone ends the request's context
			out.Flush()
		}
	}
	img, err := s.aegis.PullImage(r.Context(), req.Ref, req.Policy, func(p api.ImageProgress) { line(pullLine{ImageProgress: p}) })
	switch {
	case err == nil:
		line(pullLine{Image: &img})
	case begun:
		e := api.AsError(err)
		line(pullLine{Code: e.Code, Error: e.Message})
	default:
		s.fail(w, err)
	}
}

// loadImage reads the archive from the body.
func (s *Server) loadImage(w http.ResponseWriter, r *http.Request) {
	ours, theirs, err := os.Pipe()
	if err != nil {
		s.fail(w, err)
		return
	}
	defer ours.Close()
	sent := make(chan error, 1)
	go func() { // ends with the body
		_, err := io.Copy(theirs, r.Body)
		theirs.Close()
		// A refusal reaches a client only when it has sent all.
		_, end := io.Copy(io.Discard, r.Body)
		sent <- errors.Join(end, unlessRefused(err))
	}()
	all, err := s.aegis.LoadImage(r.Context(), ours, r.URL.Query().Get("name"))
	ours.Close()
	if broken := <-sent; broken != nil {
		err = api.Errorf(api.InvalidArgument, "the archive broke off: %w: send it again", broken)
	}
	s.reply(w, http.StatusOK, append([]api.Image{}, all...), err)
}

// unlessRefused forgives that nobody wanted the rest of an archive.
func unlessRefused(err error) error {
	if isBrokenPipe(err) {
		return nil
	}
	return err
}

// saveImage answers with a tar. A failure after its first bytes breaks the
// connection off.
func (s *Server) saveImage(w http.ResponseWriter, r *http.Request) {
	var req saveRequest
	if !s.decode(w, r, &req) {
		return
	}
	ours, theirs, err := os.Pipe()
	if err != nil {
		s.fail(w, err)
		return
	}
	defer ours.Close()
	saved := make(chan error, 1)
	go func() { // ends with the call
		err := s.aegis.SaveImage(r.Context(), req.Refs, theirs)
		saved <- err
		theirs.Close()
	}()
	first := make([]byte, 512)
	n, err := io.ReadFull(ours, first)
	if n < len(first) {
		s.fail(w, errors.Join(<-saved, unlessEnd(err)))
		return
	}
	w.Header().Set("Content-Type", "application/x-tar")
	w.WriteHeader(http.StatusOK)
	_, err = w.Write(first)
	if err == nil {
		_, err = io.Copy(w, ours)
	}
	ours.Close()
	if failed := <-saved; failed != nil || err != nil {
		s.log.Warn("saving images failed", "error", errors.Join(failed, err))
		panic(http.ErrAbortHandler)
	}
}

func unlessEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// ListImages implements api.Aegis.
func (c *Client) ListImages(ctx context.Context) (all []api.Image, err error) {
	return all, c.call(ctx, http.MethodGet, "/v1/images", nil, &all)
}

// ImageInfo implements api.Aegis.
func (c *Client) ImageInfo(ctx context.Context, ref string) (img api.Image, err error) {
	return img, c.call(ctx, http.MethodGet, imagePath(ref, ""), nil, &img)
}

// RemoveImage implements api.Aegis.
func (c *Client) RemoveImage(ctx context.Context, ref string) error {
	return c.call(ctx, http.MethodDelete, imagePath(ref, ""), nil, nil)
}

// TagImage implements api.Aegis.
func (c *Client) TagImage(ctx context.Context, ref, name string) (img api.Image, err error) {
	return img, c.call(ctx, http.MethodPost, imagePath(ref, "/tag"), tagRequest{name}, &img)
}

// PruneImages implements api.Aegis.
func (c *Client) PruneImages(ctx context.Context) (removed []api.Image, err error) {
	return removed, c.call(ctx, http.MethodPost, "/v1/images/prune", nil, &removed)
}

func imagePath(ref, rest string) string { return "/v1/images/" + url.PathEscape(ref) + rest }
