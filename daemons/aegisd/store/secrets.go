package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/xfeldman/aegisvm/api"
)

// Secret is one secret as it is kept. What Sealed holds only package secret
// knows.
type Secret struct {
	Name    string
	KeyID   string
	Sealed  []byte
	Created time.Time
}

// PutSecret commits a secret in place of an earlier one of its name.
// LimitExceeded when it would be one more than limit.
func (s *Store) PutSecret(ctx context.Context, sec Secret, limit int) error {
	const query = `INSERT INTO secrets (name, key_id, sealed, created_ns) VALUES (?, ?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET key_id = excluded.key_id, sealed = excluded.sealed, created_ns = excluded.created_ns`
	return s.inTx(ctx, "keeping secret "+sec.Name, func(tx *sql.Tx) error {
		var others int
		err := tx.QueryRowContext(ctx, "SELECT count(*) FROM secrets WHERE name <> ?", sec.Name).Scan(&others)
		if err != nil {
			return err
		}
		if others >= limit {
			return api.Errorf(api.LimitExceeded, "there are %d secrets already: delete some", others)
		}
		_, err = tx.ExecContext(ctx, query, sec.Name, sec.KeyID, sec.Sealed, sec.Created.UnixNano())
		return err
	})
}

// AllSecrets reads every secret, by name.
func (s *Store) AllSecrets(ctx context.Context) ([]Secret, error) {
	all, err := secretsOf(ctx, s.db)
	if err != nil {
		return nil, fmt.Errorf("reading secrets: %w", translate(err))
	}
	return all, nil
}

// DropSecret commits the end of a secret; NotFound when there is none.
func (s *Store) DropSecret(ctx context.Context, name string) error {
	return s.inTx(ctx, "deleting secret", func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, "DELETE FROM secrets WHERE name = ?", name)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n > 0 {
			return err
		}
		return api.Errorf(api.NotFound, "no secret %q: see `aegis secret list` for those there are", name)
	})
}

// ResealSecrets commits what reseal makes of every secret, or nothing when it
// fails once. Names and times stay.
func (s *Store) ResealSecrets(ctx context.Context, reseal func(Secret) (Secret, error)) error {
	return s.inTx(ctx, "encrypting the secrets anew", func(tx *sql.Tx) error {
		all, err := secretsOf(ctx, tx)
		if err != nil {
			return err
		}
		for _, old := range all {
			sec, err := reseal(old)
			if err != nil {
				return err
			}
			_, err = tx.ExecContext(ctx, "UPDATE secrets SET key_id = ?, sealed = ? WHERE name = ?", sec.KeyID, sec.Sealed, old.Name)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func secretsOf(ctx context.Context, q interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
},
) ([]Secret, error) {
	rows, err := q.QueryContext(ctx, "SELECT name, key_id, sealed, created_ns FROM secrets ORDER BY name")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []Secret
	for rows.Next() {
		var sec Secret
		var created int64
		if err := rows.Scan(&sec.Name, &sec.KeyID, &sec.Sealed, &created); err != nil {
			return nil, err
		}
		sec.Created = time.Unix(0, created).UTC()
		all = append(all, sec)
	}
	return all, rows.Err()
}
