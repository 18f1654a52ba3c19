package restapi

import (
	"context"
	"net/http"

	"github.com/xfeldman/aegisvm/api"
)

// useRequest is the body of PUT /v1/instances/{id}/secrets.
type useRequest struct {
	Secrets *[]string `json:"secrets"`
}

func (s *Server) useSecrets(w http.ResponseWriter, r *http.Request) {
	var req useRequest
	if !s.decode(w, r, &req) {
		return
	}
	if req.Secrets == nil {
		s.fail(w, api.Errorf(api.InvalidArgument, `request body: expected {"secrets":[NAME...]}, with [] for none`))
		return
	}
	used, err := s.aegis.UseSecrets(r.Context(), r.PathValue("id"), *req.Secrets)
	s.reply(w, http.StatusOK, used, err)
}

// UseSecrets implements api.Aegis.
func (c *Client) UseSecrets(ctx context.Context, ref string, names []string) (used api.UsedSecrets, err error) {
	names = append([]string{}, names...)
	return used, c.call(ctx, http.MethodPut, instance(ref, "/secrets"), useRequest{&names}, &used)
}
