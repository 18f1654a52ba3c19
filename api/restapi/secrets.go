package restapi

import (
	"context"
	"net/http"
	"net/url"
	"unicode/utf8"

	"github.com/xfeldman/aegisvm/api"
)

// secretRequest is the body of PUT /v1/secrets/{name}.
type secretRequest struct {
	Value string `json:"value"`
}

func (s *Server) setSecret(w http.ResponseWriter, r *http.Request) {
	var req secretRequest
	if !s.decode(w, r, &req) {
		return
	}
	sec, err := s.aegis.SetSecret(r.Context(), r.PathValue("name"), req.Value)
	s.reply(w, http.StatusOK, sec, err)
}

func (s *Server) secrets(w http.ResponseWriter, r *http.Request) {
	all, err := s.aegis.Secrets(r.Context())
	s.reply(w, http.StatusOK, append([]api.Secret{}, all...), err)
}

func (s *Server) deleteSecret(w http.ResponseWriter, r *http.Request) {
	err := s.aegis.DeleteSecret(r.Context(), r.PathValue("name"))
	s.reply(w, http.StatusOK, done{"deleted"}, err)
}

func (s *Server) rotateKey(w http.ResponseWriter, r *http.Request) {
	s.reply(w, http.StatusOK, done{"rotated"}, s.aegis.RotateKey(r.Context()))
}

// SetSecret implements api.Aegis. JSON would change what is no text.
func (c *Client) SetSecret(ctx context.Context, name, value string) (sec api.Secret, err error) {
	if !utf8.ValidString(value) {
		return sec, api.Errorf(api.InvalidArgument, "secret %q: its value is no UTF-8 text: encode it, such as with base64", name)
	}
	return sec, c.call(ctx, http.MethodPut, secretPath(name), secretRequest{value}, &sec)
}

// Secrets implements api.Aegis.
func (c *Client) Secrets(ctx context.Context) (all []api.Secret, err error) {
	return all, c.call(ctx, http.MethodGet, "/v1/secrets", nil, &all)
}

// DeleteSecret implements api.Aegis.
func (c *Client) DeleteSecret(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodDelete, secretPath(name), nil, nil)
}

// RotateKey implements api.Aegis.
func (c *Client) RotateKey(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/v1/secrets/rotate-key", nil, nil)
}

func secretPath(name string) string { return "/v1/secrets/" + url.PathEscape(name) }
