package restapi_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
)

// secretive keeps no secret but answers as if.
type secretive struct{ scripted }

func (*secretive) SetSecret(_ context.Context, name, value string) (api.Secret, error) {
	if value != "x" {
		return api.Secret{}, api.Errorf(api.InvalidArgument, "not x")
	}
	return api.Secret{Name: name, CreatedAt: time.Unix(1, 0).UTC()}, nil
}
func (*secretive) Secrets(context.Context) ([]api.Secret, error) { return nil, nil }
func (*secretive) DeleteSecret(context.Context, string) error    { return nil }
func (*secretive) RotateKey(context.Context) error               { return nil }

func TestWireShapesOfSecrets(t *testing.T) {
	path := serve(t, &secretive{})
	for name, c := range map[string]struct {
		method, url, body string
		status            int
		want              string
	}{
		"set":             {"PUT", "/v1/secrets/A", `{"value":"x"}`, 200, `{"name":"A","created_at":"1970-01-01T00:00:01Z"}`},
		"set nothing":     {"PUT", "/v1/secrets/A", `{}`, 400, `"code":"InvalidArgument"`},
		"an odd field":    {"PUT", "/v1/secrets/A", `{"value":"x","name":"B"}`, 400, "unknown field"},
		"no text":         {"PUT", "/v1/secrets/A", `{"value":12345678}`, 400, `"code":"InvalidArgument"`},
		"read a value":    {"GET", "/v1/secrets/A", "", 405, ""},
		"rotate by GET":   {"GET", "/v1/secrets/rotate-key", "", 405, ""},
		"list":            {"GET", "/v1/secrets", "", 200, `[]`},
		"delete":          {"DELETE", "/v1/secrets/A", "", 200, `{"status":"deleted"}`},
		"rotate":          {"POST", "/v1/secrets/rotate-key", "", 200, `{"status":"rotated"}`},
		"post to a value": {"POST", "/v1/secrets/A", `{"value":"x"}`, 405, ""},
	} {
		status, body, _ := raw(t, path, c.method, c.url, c.body)
		if status != c.status || !strings.Contains(body, c.want) || strings.Contains(body, "12345678") {
			t.Errorf("%s: %d %s, want %d %s", name, status, body, c.status, c.want)
		}
	}
}
