package instance

import (
	"testing"

	"github.com/xfeldman/aegisvm/api"
)

// TestUsersMayHaveWorkspacesOfOneName chooses by who asks.
func TestUsersMayHaveWorkspacesOfOneName(t *testing.T) {
	all := []api.Workspace{{Name: "a", OwnerUID: 1}, {Name: "a", OwnerUID: 2}, {Name: "b", OwnerUID: 1}}
	for _, c := range []struct {
		uid  uint32
		name string
		want uint32
		code api.Code
	}{
		{1, "a", 1, ""},
		{2, "a", 2, ""},
		{3, "a", 0, api.Denied},
		{2, "b", 0, api.Denied},
		{0, "b", 1, ""},
		{0, "a", 0, api.BadState},
		{1, "c", 0, api.NotFound},
	} {
		got, err := choose(all, api.Caller{UID: c.uid}, c.name)
		if api.CodeOf(err) != c.code || got.OwnerUID != c.want {
			t.Errorf("%d asks for %s: %d, %v", c.uid, c.name, got.OwnerUID, err)
		}
	}
}
