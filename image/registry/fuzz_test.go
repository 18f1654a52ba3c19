package registry_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/image/registry"
)

// FuzzParse reads any text as a name. Its whole name must mean the same.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"debian", "a/b:c", "localhost:5000/x@sha256:00", "[::1]:1/x", "../x", "A", strings.Repeat("0", 250)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := registry.Parse(s)
		if err != nil {
			if api.CodeOf(err) != api.InvalidArgument {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		again, err := registry.Parse(n.String())
		if err != nil || again.String() != n.String() || again.Registry() != n.Registry() {
			t.Errorf("%q is %q, which is %v, %v", s, n, again, err)
		}
	})
}

// FuzzConfig reads any bytes as registries.json.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"insecure": ["a:5000"], "mirrors": {"docker.io": ["m.example/hub"]}}`))
	f.Add([]byte(`{"mirrors": {"": [""]}}`))
	path := filepath.Join(f.TempDir(), "registries.json")
	n, err := registry.Parse("debian")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		c := registry.New(registry.Options{Config: path})
		defer c.Close()
		if places, err := c.Repositories(n); err != nil && api.CodeOf(err) != api.InvalidArgument || err == nil && len(places) == 0 {
			t.Errorf("%d places, %v", len(places), err)
		}
	})
}
