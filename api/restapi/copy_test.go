package restapi_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/api/restapi"
)

// copies is an Aegis that notes what it is asked to copy, and refuses.
type copies struct {
	api.Aegis
	asked []any
}

func (c *copies) CopyFrom(_ context.Context, ref string, spec api.CopyFromSpec) (*api.Streams, error) {
	c.asked = append(c.asked, ref, spec)
	return nil, api.Errorf(api.NotFound, "no such file")
}

func (c *copies) CopyTo(_ context.Context, ref string, spec api.CopyToSpec) (*api.Streams, error) {
	c.asked = append(c.asked, ref, spec)
	return nil, api.Errorf(api.BadState, "not running")
}

func TestCopiesAskForWhatTheyWereAskedFor(t *testing.T) {
	aegis := &copies{}
	c := restapi.NewClient(serve(t, aegis))
	defer c.Close()
	from := api.CopyFromSpec{Path: "/a b", FollowLink: true}
	to := api.CopyToSpec{Path: "/c/", Extract: true, Owner: true}
	if _, err := c.CopyFrom(t.Context(), "web/1", from); api.CodeOf(err) != api.NotFound || err.Error() != "no such file" {
		t.Errorf("from: %v", err)
	}
	if _, err := c.CopyTo(t.Context(), "web", to); api.CodeOf(err) != api.BadState {
		t.Errorf("to: %v", err)
	}
	if diff := cmp.Diff([]any{"web/1", from, "web", to}, aegis.asked); diff != "" {
		t.Error(diff)
	}
}

func TestCopiesNeedStreamsAndKnownFields(t *testing.T) {
	aegis := &copies{}
	path := serve(t, aegis)
	for body, want := range map[string]string{
		`{"path":"/a"}`:            "Upgrade: aegis-streams",
		`{"path":"/a","paht":"/"}`: "unknown field",
		`{"path":1}`:               "InvalidArgument",
		``:                         "InvalidArgument",
	} {
		for _, end := range []string{"copy-from", "copy-to"} {
			if status, got, _ := raw(t, path, "POST", "/v1/instances/web/"+end, body); status != 400 || !strings.Contains(got, want) {
				t.Errorf("%s %s: %d %s", end, body, status, got)
			}
		}
	}
	if len(aegis.asked) > 0 {
		t.Errorf("asked for %v", aegis.asked)
	}
}
