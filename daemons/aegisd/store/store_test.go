package store

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
)

func open(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func record(id, handle string) Record {
	return Record{
		ID: id, OwnerUID: 1000, Created: time.Unix(1_700_000_000, 123_456_789).UTC(),
		Spec:   api.InstanceSpec{Handle: handle, Command: []string{"sleep", "é"}, Env: map[string]string{"A": "1"}},
		Status: Status{Phase: api.PhaseStarting, Enabled: true, Generation: 1, Machine: "m-1", HostBoot: "b"},
	}
}

func all(t *testing.T, s *Store) []Record {
	t.Helper()
	records, err := s.All(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return records
}

func TestRecordsComeBackAsTheyWereKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a?b#c", "aegis.db")
	s := open(t, path)
	first, second := record("inst-1", "web"), record("inst-2", "")
	second.Created = first.Created.Add(-time.Nanosecond)
	for _, r := range []Record{first, second} {
		if err := s.Insert(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	code, now := 0, time.Unix(1, 1).UTC()
	first.Status = Status{
		Phase: api.PhaseStopped, Generation: 7, Attached: true, Digest: "sha256:1", LastError: "why",
		ExitCode: &code, ExitSignal: 9, Started: &now, Stopped: &now, Updated: &now, Active: &now,
	}
	if err := s.Update(t.Context(), first.ID, first.Status); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = open(t, path)
	if diff := cmp.Diff([]Record{second, first}, all(t, s)); diff != "" {
		t.Errorf("records: %s", diff)
	}
	for range 2 {
		if err := s.Delete(t.Context(), "inst-1"); err != nil {
			t.Fatal(err)
		}
	}
	if got := all(t, s); len(got) != 1 {
		t.Errorf("after the delete: %+v", got)
	}
	if err := s.Update(t.Context(), "inst-1", Status{}); api.CodeOf(err) != api.NotFound {
		t.Errorf("update of a deleted record: %v", err)
	}
}

func TestHandlesAndIDsShareOneNamespace(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "aegis.db"))
	if err := s.Insert(t.Context(), record("inst-1", "web")); err != nil {
		t.Fatal(err)
	}
	for _, r := range []Record{record("inst-2", "web"), record("inst-3", "inst-1"), record("inst-1", "")} {
		if err := s.Insert(t.Context(), r); api.CodeOf(err) != api.Exists {
			t.Errorf("insert of %s %q: %v", r.ID, r.Spec.Handle, err)
		}
	}
	for _, id := range []string{"inst-4", "inst-5"} {
		if err := s.Insert(t.Context(), record(id, "")); err != nil {
			t.Errorf("insert without a handle: %v", err)
		}
	}
}

func TestSimultaneousCreatorsOfAHandleHaveOneWinner(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "aegis.db"))
	results := make(chan error)
	for i := range 20 {
		go func() { results <- s.Insert(t.Context(), record(fmt.Sprint("inst-", i), "web")) }()
	}
	won := 0
	for range 20 {
		if err := <-results; err == nil {
			won++
		} else if api.CodeOf(err) != api.Exists {
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d of 20 won", won)
	}
}

func TestNewerDatabaseIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "aegis.db")
	s := open(t, path)
	if _, err := s.db.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	s.Close()
	_, err := Open(t.Context(), path)
	if api.CodeOf(err) != api.BadState || !strings.Contains(err.Error(), "newer aegisd") {
		t.Errorf("open: %v", err)
	}
}

func TestSecondOpenIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "aegis.db")
	s := open(t, path)
	if _, err := Open(t.Context(), path); api.CodeOf(err) != api.Unavailable {
		t.Errorf("open: %v", err)
	}
	s.Close()
	open(t, path)
}

func TestDamagedDatabaseIsNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "aegis.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("not a database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), path)
	if api.CodeOf(err) != api.Internal || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("open: %v", err)
	}
}

func TestFullDatabaseRefusesAndKeepsWhatItHas(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "aegis.db"))
	var pages int
	if err := s.db.QueryRow("PRAGMA page_count").Scan(&pages); err != nil {
		t.Fatal(err)
	}
	if _, err := s.db.Exec(fmt.Sprintf("PRAGMA max_page_count = %d", pages+2)); err != nil {
		t.Fatal(err)
	}
	big := record("inst-1", "")
	big.Spec.Env = map[string]string{"A": strings.Repeat("x", 100_000)}
	if err := s.Insert(t.Context(), big); api.CodeOf(err) != api.LimitExceeded || !strings.Contains(err.Error(), "full") {
		t.Errorf("insert: %v", err)
	}
	if err := s.Insert(t.Context(), record("inst-1", "")); err != nil {
		t.Errorf("small insert after it: %v", err)
	}
}

func TestDatabaseThatBecomesReadOnlySaysSo(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "aegis.db"))
	if _, err := s.db.Exec("PRAGMA query_only = ON"); err != nil {
		t.Fatal(err)
	}
	if err := s.Insert(t.Context(), record("inst-1", "")); api.CodeOf(err) != api.Unavailable {
		t.Errorf("insert: %v", err)
	}
}

func TestDatabaseIsPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "aegis.db")
	s := open(t, path)
	if err := s.Insert(t.Context(), record("inst-1", "")); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) < 2 {
		t.Fatalf("files: %v, %v", files, err)
	}
	for _, f := range files {
		if fi, err := os.Stat(f); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f, fi.Mode(), err)
		}
	}
}

// TestWhatWasAcknowledgedSurvivesKill runs itself as a child that writes until
// it is killed.
func TestWhatWasAcknowledgedSurvivesKill(t *testing.T) {
	if path := os.Getenv("AEGIS_STORE_CHILD"); path != "" {
		writeForEver(t, path)
		return
	}
	path := filepath.Join(t.TempDir(), "aegis.db")
	child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), "AEGIS_STORE_CHILD="+path)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	acknowledged := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "kept ") {
			acknowledged++
		}
		if acknowledged == 25 {
			child.Process.Kill()
			break
		}
	}
	child.Wait()
	if got := len(all(t, open(t, path))); got < acknowledged || acknowledged != 25 {
		t.Errorf("%d records of %d acknowledged are there", got, acknowledged)
	}
}

func writeForEver(t *testing.T, path string) {
	s := open(t, path)
	for i := 0; ; i++ {
		if err := s.Insert(t.Context(), record(fmt.Sprint("inst-", i), "")); err != nil {
			t.Fatal(err)
		}
		fmt.Printf("kept %d\n", i)
	}
}
