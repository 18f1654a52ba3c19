package image_test

import (
	"testing"

	"github.com/xfeldman/aegisvm/image"
	"github.com/xfeldman/aegisvm/image/imagetest"
)

func open(t testing.TB, dir string, opts image.Options) *image.Local {
	t.Helper()
	s, err := image.Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestLocalKeepsTheContract(t *testing.T) {
	imagetest.Contract(t, func(t *testing.T, base string) image.Store {
		return open(t, t.TempDir(), image.Options{Base: base})
	})
}
