package restapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/xfeldman/aegisvm/api"
)

// events sends every event as one line, flushed. The headers go out once the
// subscription stands, so that a client that has them misses nothing.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	stream, err := s.aegis.Events(ctx)
	if err != nil {
		s.fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	out, enc := http.NewResponseController(w), json.NewEncoder(w)
	for out.Flush() == nil {
		ev, more := <-stream
		if !more {
			break
		}
		if enc.Encode(ev) != nil {
			return
		}
	}
	if ctx.Err() == nil {
		enc.Encode(api.Errorf(api.LimitExceeded, "event stream: the reader did not keep up: read faster or list and follow again"))
	}
}

func (s *Server) attach(w http.ResponseWriter, r *http.Request) {
	s.upgrade(w, r, s.aegis.Attach)
}

// upgrade answers 101 once the streams are there and hands them over.
func (s *Server) upgrade(w http.ResponseWriter, r *http.Request, get func(context.Context, string) (*api.Streams, error)) {
	if !wantsStreams(r) {
		s.fail(w, api.Errorf(api.InvalidArgument, "%s: expected the header Upgrade: %s", r.URL.Path, Protocol))
		return
	}
	streams, err := get(r.Context(), r.PathValue("id"))
	s.answerStreams(w, r, "", streams, err)
}

func wantsStreams(r *http.Request) bool { return strings.EqualFold(r.Header.Get("Upgrade"), Protocol) }

// answerStreams hands streams over, with the id of a new exec.
func (s *Server) answerStreams(w http.ResponseWriter, r *http.Request, exec string, streams *api.Streams, err error) {
	if err != nil {
		s.fail(w, err)
		return
	}
	defer streams.Close()
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		s.fail(w, fmt.Errorf("taking over the connection: %w", err))
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(handover))
	if err := handOver(conn, exec, streams); err != nil {
		s.log.Warn("streams not handed over", "path", r.URL.Path, "error", err)
	}
}

// handover is how long a client may take to fetch its descriptors.
const handover = 10 * time.Second

func handOver(conn net.Conn, exec string, streams *api.Streams) error {
	head := "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + Protocol + "\r\n"
	if exec != "" {
		head += execHeader + ": " + exec + "\r\n"
	}
	head += "\r\n"
	if _, err := conn.Write([]byte(head)); err != nil {
		return fmt.Errorf("answering: %w", err)
	}
	var ready [1]byte
	if _, err := conn.Read(ready[:]); err != nil {
		return fmt.Errorf("waiting for the client: %w", err)
	}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("connection is a %T: descriptors need a unix socket", conn)
	}
	return sendStreams(unixConn, streams)
}
