package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/xfeldman/aegisvm/api"
)

// Revival is what the restart policy of an instance knows. It is zero after a
// start that a user asked for.
type Revival struct {
	// Halted is whether the policy has no say until the next start: a user
	// stopped the instance, or the policy gave up.
	Halted bool `json:"halted,omitempty"`
	// Count is how many starts were the policy's.
	Count int `json:"count,omitempty"`
	// Step is how often the next delay has doubled.
	Step int `json:"step,omitempty"`
	// Tries are the starts of the last minutes.
	Tries []time.Time `json:"tries,omitempty"`
	// Due is when the next start is to be.
	Due *time.Time `json:"due,omitempty"`
}

// column is a document as it is kept; a zero one is empty.
func column(v any) string {
	b, err := json.Marshal(v)
	if err != nil || string(b) == "{}" {
		return "" // times of a year beyond 9999 only
	}
	return string(b)
}

// readColumn reads one back; what says what it tells.
func readColumn(column, what string, v any) error {
	if column == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(column), v); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// Revise commits another spec of an instance; Exists when its handle is
// taken, NotFound when it has no record.
func (s *Store) Revise(ctx context.Context, id string, spec api.InstanceSpec, at time.Time) error {
	doc, err := json.Marshal(document{documentVersion, spec})
	if err != nil {
		return fmt.Errorf("instance %s: %w", id, err)
	}
	return s.inTx(ctx, "revising instance "+id, func(tx *sql.Tx) error {
		if err := free(ctx, tx, id, spec.Handle); err != nil {
			return err
		}
		res, err := tx.ExecContext(ctx, "UPDATE instances SET spec = ?, handle = nullif(?, ''), updated_ns = ? WHERE id = ?",
			string(doc), spec.Handle, at.UnixNano(), id)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, api.Errorf(api.NotFound, "no record"))
		}
		return nil
	})
}

// free tells whether no other instance than id has the handle for a name.
func free(ctx context.Context, tx *sql.Tx, id, handle string) error {
	var taken string
	err := tx.QueryRowContext(ctx, "SELECT id FROM instances WHERE (id = ?2 OR handle = ?2) AND id != ?1", id, handle).Scan(&taken)
	switch {
	case err == nil:
		return api.Errorf(api.Exists, "%q is the name of %s already: choose another or delete it", handle, taken)
	case errors.Is(err, sql.ErrNoRows):
		return nil
	default:
		return err
	}
}
