package store

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
)

func TestUpdateSpecKeepsTheRestOfTheRecord(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "aegis.db"))
	r := record("inst-1", "web")
	if err := s.Insert(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	r.Spec.Secrets = []string{"KEY"}
	if err := s.UpdateSpec(t.Context(), r.ID, r.Spec); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Record{r}, all(t, s)); diff != "" {
		t.Errorf("records: %s", diff)
	}
	if err := s.UpdateSpec(t.Context(), "inst-2", r.Spec); api.CodeOf(err) != api.NotFound {
		t.Errorf("a record that is not there: %v", err)
	}
	r.Spec.Handle = "other"
	if err := s.UpdateSpec(t.Context(), r.ID, r.Spec); api.CodeOf(err) != api.NotFound {
		t.Errorf("under another handle: %v", err)
	}
}
