package restapi

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/xfeldman/aegisvm/api"
)

// exposeRequest is the body of POST …/expose.
type exposeRequest struct {
	// Port is the guest's.
	Port       int          `json:"port"`
	PublicPort int          `json:"public_port,omitempty"`
	Protocol   api.Protocol `json:"protocol,omitempty"`
	Bind       string       `json:"bind,omitempty"`
}

// portRoutes are the endpoints of api.Ports.
func (s *Server) portRoutes() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"POST /v1/instances/{id}/expose":                s.expose,
		"DELETE /v1/instances/{id}/expose/{guest_port}": s.unexpose,
	}
}

func (s *Server) expose(w http.ResponseWriter, r *http.Request) {
	var req exposeRequest
	if !s.decode(w, r, &req) {
		return
	}
	e, err := s.aegis.Expose(r.Context(), r.PathValue("id"), api.Expose{
		Bind: req.Bind, GuestPort: req.Port, PublicPort: req.PublicPort, Protocol: req.Protocol,
	})
	s.reply(w, http.StatusOK, e, err)
}

func (s *Server) unexpose(w http.ResponseWriter, r *http.Request) {
	text := r.PathValue("guest_port")
	port, err := strconv.Atoi(text)
	if err != nil {
		s.fail(w, api.Errorf(api.InvalidArgument, "port %.80q: expected a number from 1 to 65535", text))
		return
	}
	err = s.aegis.Unexpose(r.Context(), r.PathValue("id"), port, api.Protocol(r.URL.Query().Get("protocol")))
	s.reply(w, http.StatusOK, done{"ok"}, err)
}

// Expose implements api.Aegis.
func (c *Client) Expose(ctx context.Context, ref string, e api.Expose) (out api.Endpoint, err error) {
	req := exposeRequest{Port: e.GuestPort, PublicPort: e.PublicPort, Protocol: e.Protocol, Bind: e.Bind}
	return out, c.call(ctx, http.MethodPost, instance(ref, "/expose"), req, &out)
}

// Unexpose implements api.Aegis.
func (c *Client) Unexpose(ctx context.Context, ref string, guestPort int, protocol api.Protocol) error {
	path := instance(ref, "/expose/"+strconv.Itoa(guestPort))
	if protocol != "" {
		path += "?protocol=" + url.QueryEscape(string(protocol))
	}
	return c.call(ctx, http.MethodDelete, path, nil, nil)
}
