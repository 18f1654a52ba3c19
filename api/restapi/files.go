package restapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"

	"github.com/xfeldman/aegisvm/api"
)

// fileRoutes are those of api.Files.
func (s *Server) fileRoutes() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"GET /v1/instances/{id}/workspace/tree": s.tree,
		"GET /v1/instances/{id}/workspace":      s.readFile,
		"POST /v1/instances/{id}/workspace":     s.writeFile,
		"POST /v1/instances/{id}/blob":          s.putBlob,
	}
}

// failFile is fail where the limit is that of the body.
func (s *Server) failFile(w http.ResponseWriter, err error) {
	if api.CodeOf(err) == api.LimitExceeded {
		s.failWith(w, http.StatusRequestEntityTooLarge, api.AsError(err))
		return
	}
	s.fail(w, err)
}

func (s *Server) tree(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Query().Get("path")
	if path == "" {
		path = "."
	}
	all, err := s.aegis.Tree(r.Context(), callerOf(r.Context()), r.PathValue("id"), path)
	if err != nil {
		s.failFile(w, err)
		return
	}
	s.reply(w, http.StatusOK, append([]api.FileEntry{}, all...), nil)
}

// readFile answers with the bytes. What they are is told by the name, else by
// the first of them.
func (s *Server) readFile(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Query().Get("path")
	f, err := s.aegis.ReadFile(r.Context(), callerOf(r.Context()), r.PathValue("id"), path)
	if err != nil {
		s.failFile(w, err)
		return
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		s.fail(w, fmt.Errorf("reading a file: %w", err))
		return
	}
	// A guest may be writing to it: no more than there was.
	content := io.NewSectionReader(f, 0, min(st.Size(), api.MaxFile))
	http.ServeContent(w, r, path, st.ModTime(), content)
}

func (s *Server) writeFile(w http.ResponseWriter, r *http.Request) {
	err := withBody(w, r, func(data *os.File) error {
		return s.aegis.WriteFile(r.Context(), callerOf(r.Context()), r.PathValue("id"), r.URL.Query().Get("path"), data)
	})
	if err != nil {
		s.failFile(w, err)
		return
	}
	s.reply(w, http.StatusOK, done{"ok"}, nil)
}

func (s *Server) putBlob(w http.ResponseWriter, r *http.Request) {
	kind := ""
	if given := r.Header.Get("Content-Type"); given != "" {
		var err error
		if kind, _, err = mime.ParseMediaType(given); err != nil {
			s.fail(w, api.Errorf(api.InvalidArgument, "Content-Type %.80q: %w: expected one such as image/png", given, err))
			return
		}
	}
	var blob api.Blob
	err := withBody(w, r, func(data *os.File) (err error) {
		blob, err = s.aegis.PutBlob(r.Context(), callerOf(r.Context()), r.PathValue("id"), kind, data)
		return err
	})
	if err != nil {
		s.failFile(w, err)
		return
	}
	s.reply(w, http.StatusOK, blob, nil)
}

// withBody calls use with the whole body in a file. One that breaks off or is
// too large is refused before anybody sees it.
func withBody(w http.ResponseWriter, r *http.Request, use func(*os.File) error) error {
	f, err := spool(http.MaxBytesReader(w, r.Body, api.MaxFile))
	if err != nil {
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			return api.Errorf(api.LimitExceeded, "request body: more than %d MiB: use `aegis cp`", api.MaxFile>>20)
		}
		return err
	}
	defer f.Close()
	return use(f)
}

// spool puts all that r has into a file without a name.
func spool(r io.Reader) (*os.File, error) {
	f, err := os.CreateTemp("", "aegis-")
	if err != nil {
		return nil, api.Errorf(api.Internal, "keeping the data: %w", err)
	}
	os.Remove(f.Name())
	_, err = io.Copy(writing{f}, r)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err == nil {
		return f, nil
	}
	f.Close()
	if ours := (writeError{}); errors.As(err, &ours) {
		return nil, api.Errorf(api.Internal, "keeping the data: %w", ours.error)
	}
	return nil, api.Errorf(api.InvalidArgument, "the data broke off: %w: send it again", err)
}

func filePath(ref, rest, path string) string {
	return instance(ref, rest) + "?" + url.Values{"path": {path}}.Encode()
}

// Tree implements api.Aegis. The caller is known to the server.
func (c *Client) Tree(ctx context.Context, _ api.Caller, ref, path string) (all []api.FileEntry, err error) {
	return all, c.call(ctx, http.MethodGet, filePath(ref, "/workspace/tree", path), nil, &all)
}

// ReadFile implements api.Aegis. The caller is known to the server.
func (c *Client) ReadFile(ctx context.Context, _ api.Caller, ref, path string) (*os.File, error) {
	req, err := newRequest(ctx, http.MethodGet, filePath(ref, "/workspace", path), nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.ask(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return spool(resp.Body)
}

// WriteFile implements api.Aegis. The caller is known to the server.
func (c *Client) WriteFile(ctx context.Context, _ api.Caller, ref, path string, data *os.File) error {
	return c.sendFile(ctx, filePath(ref, "/workspace", path), "application/octet-stream", data, &done{})
}

// PutBlob implements api.Aegis. The caller is known to the server.
func (c *Client) PutBlob(ctx context.Context, _ api.Caller, ref, mediaType string, data *os.File) (b api.Blob, err error) {
	return b, c.sendFile(ctx, instance(ref, "/blob"), mediaType, data, &b)
}

// sendFile sends a whole file.
func (c *Client) sendFile(ctx context.Context, path, mediaType string, data *os.File, out any) error {
	st, err := data.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return api.Errorf(api.InvalidArgument, "the data is no regular file: write it to one first")
	}
	req, err := newRequest(ctx, http.MethodPost, path, nil)
	if err != nil {
		return err
	}
	req.Body, req.ContentLength = io.NopCloser(io.NewSectionReader(data, 0, st.Size())), st.Size()
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	resp, err := c.ask(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return decodeAnswer(req, resp, out)
}
