package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/xfeldman/aegisvm/api"
)

// UpdateSpec commits what is asked of an instance from its next start on;
// NotFound when it has no record. Its handle stays what it is.
func (s *Store) UpdateSpec(ctx context.Context, id string, spec api.InstanceSpec) error {
	doc, err := json.Marshal(document{documentVersion, spec})
	if err != nil {
		return fmt.Errorf("instance %s: %w", id, err)
	}
	return s.inTx(ctx, "updating instance "+id, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, "UPDATE instances SET spec = ? WHERE id = ? AND handle IS nullif(?, '')", string(doc), id, spec.Handle)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, api.Errorf(api.NotFound, "no record of that name"))
		}
		return nil
	})
}
