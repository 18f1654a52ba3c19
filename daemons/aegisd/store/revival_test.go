package store

import (
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
)

func TestARevivalComesBackAsItWasKept(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "aegis.db"))
	r := record("inst-1", "web")
	if err := s.Insert(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	due := time.Unix(2, 3).UTC()
	for _, want := range []Revival{{}, {Halted: true}, {Count: 2, Step: 3, Tries: []time.Time{time.Unix(1, 1).UTC()}, Due: &due}} {
		r.Status.Revival = want
		if err := s.Update(t.Context(), r.ID, r.Status); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]Record{r}, all(t, s)); diff != "" {
			t.Errorf("records: %s", diff)
		}
	}
}

func TestAnotherSpecHasAHandleOfItsOwn(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "aegis.db"))
	first, second := record("inst-1", "web"), record("inst-2", "db")
	for _, r := range []Record{first, second} {
		if err := s.Insert(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	revise := func(id, handle string) error {
		spec := first.Spec
		spec.Handle = handle
		return s.Revise(t.Context(), id, spec, time.Unix(2, 2))
	}
	for _, c := range []struct {
		id, handle string
		want       api.Code
	}{
		{"inst-1", "db", api.Exists},
		{"inst-1", "inst-2", api.Exists},
		{"inst-3", "new", api.NotFound},
		{"inst-1", "web", ""},
		{"inst-1", "www", ""},
		{"inst-2", "web", ""},
	} {
		if err := revise(c.id, c.handle); api.CodeOf(err) != c.want {
			t.Errorf("%s as %s: %v, want %q", c.id, c.handle, err, c.want)
		}
	}
	if got := all(t, s); got[0].Spec.Handle != "www" || got[1].Spec.Handle != "web" {
		t.Errorf("records: %+v", got)
	}
}

// TestRecordsOfTheFirstVersionsAreKept opens a database of schema 2.
func TestRecordsOfTheFirstVersionsAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "aegis.db")
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range append(append([]string{}, migrations[:2]...), `INSERT INTO instances VALUES
		('inst-1', 'web', '{"version":1,"spec":{"handle":"web","command":["x"]}}', 0, 1, 'stopped', 1, 3, '', '', 0, '', 'why', NULL, 0, NULL, NULL)`,
		"PRAGMA user_version = 2") {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	db.Close()
	want := Record{
		ID: "inst-1", Created: time.Unix(0, 1).UTC(), Spec: api.InstanceSpec{Handle: "web", Command: []string{"x"}},
		Status: Status{Phase: api.PhaseStopped, Enabled: true, Generation: 3, LastError: "why"},
	}
	if diff := cmp.Diff([]Record{want}, all(t, open(t, path))); diff != "" {
		t.Errorf("records: %s", diff)
	}
}
