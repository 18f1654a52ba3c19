package store

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestASleepComesBackAsItWasKept(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "aegis.db"))
	r := record("inst-1", "web")
	if err := s.Insert(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	since := time.Unix(2, 3).UTC()
	for _, want := range []Sleep{
		{},
		{Reason: "nobody used it", Since: &since, Idle: true},
		{Snapshot: "s-1", Bytes: 1 << 30, Monitor: "qemu 7 tcg", Origin: "m-1", Unaware: true},
	} {
		r.Status.Sleep = want
		if err := s.Update(t.Context(), r.ID, r.Status); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]Record{r}, all(t, s)); diff != "" {
			t.Errorf("records: %s", diff)
		}
	}
}
