package restapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/xfeldman/aegisvm/api"
)

// Server serves an api.Aegis to the connections of unix sockets.
type Server struct {
	aegis api.Aegis
	log   *slog.Logger
	http  http.Server
}

// NewServer makes a server; log gets one line per failure that is not the
// client's.
func NewServer(aegis api.Aegis, log *slog.Logger) *Server {
	s := &Server{aegis: aegis, log: log.With("component", "restapi")}
	s.http = http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		ConnContext:       withCaller,
	}
	return s
}

// Serve answers the connections of l until ctx ends, then closes l and every
// connection. It returns nil when ctx ended it.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	s.http.BaseContext = func(net.Listener) context.Context { return ctx }
	stop := context.AfterFunc(ctx, func() { s.http.Close() })
	defer stop()
	err := s.http.Serve(l)
	if ctx.Err() != nil && errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// routes are the endpoints; openapi.json describes them and a test compares
// the two.
func (s *Server) routes() map[string]http.HandlerFunc {
	all := s.instanceRoutes()
	maps.Copy(all, s.lifeRoutes())
	maps.Copy(all, s.imageRoutes())
	maps.Copy(all, s.laterRoutes())
	maps.Copy(all, s.fileRoutes())
	maps.Copy(all, s.portRoutes())
	return all
}

func (s *Server) instanceRoutes() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"POST /v1/instances":             s.create,
		"GET /v1/instances":              s.list,
		"GET /v1/instances/{id}":         s.get,
		"DELETE /v1/instances/{id}":      s.delete,
		"POST /v1/instances/{id}/start":  s.start,
		"POST /v1/instances/{id}/stop":   s.stop,
		"POST /v1/instances/{id}/signal": s.signal,
		"POST /v1/instances/{id}/attach": s.attach,
		"GET /v1/status":                 s.status,
		"GET /v1/openapi.json":           s.describe,
		"GET /v1/events":                 s.events,
		"PUT /v1/secrets/{name}":         s.setSecret,
		"GET /v1/secrets":                s.secrets,
		"DELETE /v1/secrets/{name}":      s.deleteSecret,
		"POST /v1/secrets/rotate-key":    s.rotateKey,
		"POST /v1/instances/{id}/rejoin": s.rejoin,
		"PUT /v1/instances/{id}/secrets": s.useSecrets,
		"GET /v1/instances/{id}/network": s.networkState,
		"PUT /v1/instances/{id}/network": s.setNetworkPolicy,
		"GET /v1/workspaces":             s.workspaces,
		"DELETE /v1/workspaces/{name}":   s.removeWorkspace,
		"POST /v1/workspaces/prune":      s.pruneWorkspaces,
		"GET /v1/instances/{id}/logs":    s.logs,

		"POST /v1/instances/{id}/exec":               s.exec,
		"GET /v1/instances/{id}/exec":                s.execs,
		"POST /v1/instances/{id}/exec/{exec}/attach": s.reattachExec,
		"POST /v1/instances/{id}/exec/{exec}/resize": s.resizeExec,
		"POST /v1/instances/{id}/exec/{exec}/signal": s.signalExec,

		"POST /v1/instances/{id}/copy-from": s.copyFrom,
		"POST /v1/instances/{id}/copy-to":   s.copyTo,
	}
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, handle := range s.routes() {
		mux.HandleFunc(pattern, handle)
	}
	return mux
}

func (s *Server) create(w http.ResponseWriter, r *http.Request) {
	var spec api.InstanceSpec
	if !s.decode(w, r, &spec) {
		return
	}
	in, err := s.aegis.Create(r.Context(), callerOf(r.Context()), spec)
	s.reply(w, createdOrStarted(in), in, err)
}

func (s *Server) get(w http.ResponseWriter, r *http.Request) {
	in, err := s.aegis.Get(r.Context(), r.PathValue("id"))
	s.reply(w, http.StatusOK, in, err)
}

func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	all, err := s.aegis.List(r.Context())
	state := api.State(r.URL.Query().Get("state"))
	matching := make([]api.Instance, 0, len(all))
	for _, in := range all {
		if state == "" || in.State == state {
			matching = append(matching, in)
		}
	}
	s.reply(w, http.StatusOK, matching, err)
}

func (s *Server) delete(w http.ResponseWriter, r *http.Request) {
	err := s.aegis.Delete(r.Context(), r.PathValue("id"))
	s.reply(w, http.StatusOK, done{"deleted"}, err)
}

func (s *Server) start(w http.ResponseWriter, r *http.Request) {
	in, err := s.aegis.Start(r.Context(), r.PathValue("id"))
	s.reply(w, http.StatusOK, answer{"starting", &in}, err)
}

func (s *Server) stop(w http.ResponseWriter, r *http.Request) {
	in, err := s.aegis.Stop(r.Context(), r.PathValue("id"))
	s.reply(w, http.StatusOK, answer{"stopped", &in}, err)
}

func (s *Server) signal(w http.ResponseWriter, r *http.Request) {
	var req signalRequest
	if !s.decode(w, r, &req) {
		return
	}
	err := s.aegis.Signal(r.Context(), r.PathValue("id"), req.Signal)
	s.reply(w, http.StatusOK, done{"ok"}, err)
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	st, err := s.aegis.Status(r.Context())
	s.reply(w, http.StatusOK, st, err)
}

// decode reads one JSON object and nothing after it, and refuses names that
// the object does not have.
func (s *Server) decode(w http.ResponseWriter, r *http.Request, to any) bool {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	err := d.Decode(to)
	if err == nil {
		if _, end := d.Token(); end != io.EOF {
			err = errors.New("more than one JSON value")
		}
	}
	if err != nil {
		text := strings.TrimPrefix(err.Error(), "json: ")
		s.fail(w, api.Errorf(api.InvalidArgument, "request body: %s: expected one JSON object as the API describes it", text))
		return false
	}
	return true
}

func (s *Server) reply(w http.ResponseWriter, status int, body any, err error) {
	if err != nil {
		s.fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body) // a client that has gone is no failure of ours
}

func (s *Server) fail(w http.ResponseWriter, err error) {
	e := api.AsError(err)
	if e.Code == api.Internal {
		s.log.Error("request failed", "error", e.Message)
	}
	status, known := statusOf[e.Code]
	if !known {
		status = http.StatusInternalServerError
	}
	s.failWith(w, status, e)
}

func (s *Server) failWith(w http.ResponseWriter, status int, e *api.Error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(e)
}
