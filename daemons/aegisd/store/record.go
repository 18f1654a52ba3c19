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

// Record is one instance as it is kept.
type Record struct {
	ID       string
	OwnerUID uint32
	Created  time.Time
	// Spec is what the client asked for, without defaults.
	Spec api.InstanceSpec
	// Status is what became of it.
	Status Status
}

// Status is the part of a record that changes.
type Status struct {
	Phase   api.Phase
	Enabled bool
	// Generation counts the starts; Machine is the machine of the last one,
	// empty at rest; HostBoot is the host's boot that machine belongs to.
	Generation uint64
	Machine    string
	HostBoot   string
	// Attached is whether a client has fetched this start's streams.
	Attached         bool
	Digest           string
	LastError        string
	ExitCode         *int
	ExitSignal       int
	Started, Stopped *time.Time
	Revival          Revival
	// Updated is when the record was written, Active when somebody used the
	// instance last; nil where an older version did not tell.
	Updated, Active *time.Time
	Sleep           Sleep
	Lease           Lease
}

// document wraps a spec in the database, so that a later version can tell
// how to read it.
type document struct {
	Version int              `json:"version"`
	Spec    api.InstanceSpec `json:"spec"`
}

const documentVersion = 1

// Insert commits a new record; Exists when its handle or id is taken.
func (s *Store) Insert(ctx context.Context, r Record) error {
	doc, err := json.Marshal(document{documentVersion, r.Spec})
	if err != nil {
		return fmt.Errorf("instance %s: %w", r.ID, err)
	}
	const query = `INSERT INTO instances (id, handle, spec, owner_uid, created_ns,
		phase, enabled, generation, machine, host_boot, attached, digest, last_error,
		exit_code, exit_signal, started_ns, stopped_ns, revival, updated_ns, active_ns, sleep, lease)
		VALUES (?, nullif(?, ''), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	args := append([]any{r.ID, r.Spec.Handle, string(doc), r.OwnerUID, r.Created.UnixNano()}, r.Status.columns()...)
	return s.inTx(ctx, "creating instance "+r.ID, func(tx *sql.Tx) error {
		var taken string
		err := tx.QueryRowContext(ctx, "SELECT id FROM instances WHERE id = ?1 OR id = ?2 OR handle = ?2", r.ID, r.Spec.Handle).Scan(&taken)
		if err == nil {
			return api.Errorf(api.Exists, "%q is the name of %s already: choose another or delete it", r.Spec.Handle, taken)
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		_, err = tx.ExecContext(ctx, query, args...)
		return err
	})
}

// columns are the values of a status in the order of the table.
func (st *Status) columns() []any {
	code := sql.NullInt64{}
	if st.ExitCode != nil {
		code = sql.NullInt64{Int64: int64(*st.ExitCode), Valid: true}
	}
	return []any{
		string(st.Phase), st.Enabled, int64(st.Generation), st.Machine, st.HostBoot,
		st.Attached, st.Digest, st.LastError, code, st.ExitSignal, nanos(st.Started), nanos(st.Stopped),
		column(st.Revival), nanos(st.Updated), nanos(st.Active), column(st.Sleep), column(st.Lease),
	}
}

// Update commits the status of an instance; NotFound when it has no record.
func (s *Store) Update(ctx context.Context, id string, st Status) error {
	const query = `UPDATE instances SET phase = ?, enabled = ?, generation = ?,
		machine = ?, host_boot = ?, attached = ?, digest = ?, last_error = ?,
		exit_code = ?, exit_signal = ?, started_ns = ?, stopped_ns = ?, revival = ?, updated_ns = ?, active_ns = ?, sleep = ?, lease = ? WHERE id = ?`
	return s.inTx(ctx, "updating instance "+id, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, query, append(st.columns(), id)...)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, api.Errorf(api.NotFound, "no record"))
		}
		return nil
	})
}

// Delete commits the end of a record; one that is not there is no error.
func (s *Store) Delete(ctx context.Context, id string) error {
	return s.inTx(ctx, "deleting instance "+id, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM instances WHERE id = ?", id)
		return err
	})
}

// All reads every record, oldest first.
func (s *Store) All(ctx context.Context) ([]Record, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT id, spec, owner_uid, created_ns, phase, enabled,
		generation, machine, host_boot, attached, digest, last_error, exit_code, exit_signal,
		started_ns, stopped_ns, revival, updated_ns, active_ns, sleep, lease FROM instances ORDER BY created_ns, id`)
	if err != nil {
		return nil, fmt.Errorf("reading instances: %w", translate(err))
	}
	defer rows.Close()
	var all []Record
	for rows.Next() {
		r, err := scan(rows)
		if err != nil {
			return nil, fmt.Errorf("reading instances: %w", translate(err))
		}
		all = append(all, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading instances: %w", translate(err))
	}
	return all, nil
}

func scan(rows *sql.Rows) (Record, error) {
	var r Record
	var doc document
	var text, revival, sleep, lease string
	var created int64
	var code, started, stopped, updated, active sql.NullInt64
	st := &r.Status
	err := rows.Scan(&r.ID, &text, &r.OwnerUID, &created, &st.Phase, &st.Enabled,
		&st.Generation, &st.Machine, &st.HostBoot, &st.Attached, &st.Digest, &st.LastError,
		&code, &st.ExitSignal, &started, &stopped, &revival, &updated, &active, &sleep, &lease)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		return r, fmt.Errorf("instance %s: its spec: %w", r.ID, err)
	}
	if doc.Version != documentVersion {
		return r, fmt.Errorf("instance %s: its spec has version %d, expected %d", r.ID, doc.Version, documentVersion)
	}
	if err := errors.Join(readColumn(revival, "its restarts", &st.Revival), readColumn(sleep, "its sleep", &st.Sleep),
		readColumn(lease, "its lease", &st.Lease)); err != nil {
		return r, fmt.Errorf("instance %s: %w", r.ID, err)
	}
	r.Spec, r.Created = doc.Spec, time.Unix(0, created).UTC()
	st.Started, st.Stopped = timeOf(started), timeOf(stopped)
	st.Updated, st.Active = timeOf(updated), timeOf(active)
	if code.Valid {
		n := int(code.Int64)
		st.ExitCode = &n
	}
	return r, nil
}
