package restapi

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/xfeldman/aegisvm/api"
)

// execHeader tells the id of an exec beside its streams.
const execHeader = "Aegis-Exec-Id"

// execStarted is the first line of an exec's NDJSON.
type execStarted struct {
	ID        string    `json:"exec_id"`
	StartedAt time.Time `json:"started_at"`
}

// resizeRequest is the body of POST …/resize.
type resizeRequest struct {
	Rows int `json:"rows"`
	Cols int `json:"cols"`
}

// exec answers with descriptors where they are asked for, else with NDJSON.
func (s *Server) exec(w http.ResponseWriter, r *http.Request) {
	var spec api.ExecSpec
	if !s.decode(w, r, &spec) {
		return
	}
	if !spec.Detach && !wantsStreams(r) && (spec.TTY || spec.Stdin) {
		s.fail(w, api.Errorf(api.InvalidArgument, "exec: tty and stdin need streams: expected the header Upgrade: %s", Protocol))
		return
	}
	ref := r.PathValue("id")
	in, err := s.aegis.Get(r.Context(), ref)
	if err != nil {
		s.fail(w, err)
		return
	}
	id, streams, err := s.aegis.Exec(r.Context(), in.ID, spec)
	switch {
	case err != nil:
		s.fail(w, err)
	case streams == nil:
		s.reply(w, http.StatusOK, execStarted{id, time.Now().UTC()}, nil)
	case wantsStreams(r):
		s.answerStreams(w, r, id, streams, nil)
	default:
		defer streams.Close()
		tellLines(r.Context(), w, in.ID, id, streams)
	}
}

func (s *Server) execs(w http.ResponseWriter, r *http.Request) {
	all, err := s.aegis.Execs(r.Context(), r.PathValue("id"))
	s.reply(w, http.StatusOK, append([]api.ExecInfo{}, all...), err)
}

func (s *Server) reattachExec(w http.ResponseWriter, r *http.Request) {
	s.upgrade(w, r, func(ctx context.Context, ref string) (*api.Streams, error) {
		return s.aegis.ReattachExec(ctx, ref, r.PathValue("exec"))
	})
}

func (s *Server) resizeExec(w http.ResponseWriter, r *http.Request) {
	var req resizeRequest
	if !s.decode(w, r, &req) {
		return
	}
	err := s.aegis.ResizeExec(r.Context(), r.PathValue("id"), r.PathValue("exec"), req.Rows, req.Cols)
	s.reply(w, http.StatusOK, done{"ok"}, err)
}

func (s *Server) signalExec(w http.ResponseWriter, r *http.Request) {
	var req signalRequest
	if !s.decode(w, r, &req) {
		return
	}
	err := s.aegis.SignalExec(r.Context(), r.PathValue("id"), r.PathValue("exec"), req.Signal)
	s.reply(w, http.StatusOK, done{"ok"}, err)
}

// Exec implements api.Aegis.
func (c *Client) Exec(ctx context.Context, ref string, spec api.ExecSpec) (string, *api.Streams, error) {
	path := instance(ref, "/exec")
	if spec.Detach {
		var first execStarted
		err := c.call(ctx, http.MethodPost, path, spec, &first)
		return first.ID, nil, err
	}
	streams, header, err := c.ofProgram(ctx, path, spec)
	if err != nil {
		return "", nil, err
	}
	return header.Get(execHeader), streams, nil
}

// ReattachExec implements api.Aegis.
func (c *Client) ReattachExec(ctx context.Context, ref, id string) (*api.Streams, error) {
	streams, _, err := c.ofProgram(ctx, execPath(ref, id, "/attach"), nil)
	return streams, err
}

// ResizeExec implements api.Aegis.
func (c *Client) ResizeExec(ctx context.Context, ref, id string, rows, cols int) error {
	return c.call(ctx, http.MethodPost, execPath(ref, id, "/resize"), resizeRequest{rows, cols}, nil)
}

// SignalExec implements api.Aegis.
func (c *Client) SignalExec(ctx context.Context, ref, id string, signal int) error {
	return c.call(ctx, http.MethodPost, execPath(ref, id, "/signal"), signalRequest{signal}, nil)
}

// Execs implements api.Aegis.
func (c *Client) Execs(ctx context.Context, ref string) (all []api.ExecInfo, err error) {
	return all, c.call(ctx, http.MethodGet, instance(ref, "/exec"), nil, &all)
}

func execPath(ref, id, rest string) string {
	return instance(ref, "/exec/"+url.PathEscape(id)+rest)
}
