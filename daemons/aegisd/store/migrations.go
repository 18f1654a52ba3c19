package store

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/xfeldman/aegisvm/api"
)

// migrations are the schema's history: number n is migrations[n-1] and is
// applied once, in a transaction of its own. Add to the end; never change
// one that was released.
var migrations = []string{
	// 1: instances. spec is the client's document, as it was given; all else
	// is what became of it. handle is NULL for an instance without one. Times
	// are nanoseconds since 1970.
	`CREATE TABLE instances (
		id          TEXT PRIMARY KEY NOT NULL,
		handle      TEXT UNIQUE,
		spec        TEXT NOT NULL,
		owner_uid   INTEGER NOT NULL,
		created_ns  INTEGER NOT NULL,
		phase       TEXT NOT NULL,
		enabled     INTEGER NOT NULL,
		generation  INTEGER NOT NULL,
		machine     TEXT NOT NULL,
		host_boot   TEXT NOT NULL,
		attached    INTEGER NOT NULL,
		digest      TEXT NOT NULL,
		last_error  TEXT NOT NULL,
		exit_code   INTEGER,
		exit_signal INTEGER NOT NULL,
		started_ns  INTEGER,
		stopped_ns  INTEGER
	) STRICT, WITHOUT ROWID`,
	// 2: secrets. sealed is encrypted with the key that key_id names, which is
	// not in here.
	`CREATE TABLE secrets (
		name       TEXT PRIMARY KEY NOT NULL,
		key_id     TEXT NOT NULL,
		sealed     BLOB NOT NULL,
		created_ns INTEGER NOT NULL
	) STRICT, WITHOUT ROWID`,
	// 3: what the restart policies know, a document; empty for nothing.
	`ALTER TABLE instances ADD COLUMN revival TEXT NOT NULL DEFAULT ''`,
	// 4: when a record was written and its instance used last.
	`ALTER TABLE instances ADD COLUMN updated_ns INTEGER;
	ALTER TABLE instances ADD COLUMN active_ns INTEGER`,
	// 5: how an instance sleeps, a document; empty for one that does not.
	`ALTER TABLE instances ADD COLUMN sleep TEXT NOT NULL DEFAULT ''`,
	// 6: until when a client wants it awake, a document; empty without.
	`ALTER TABLE instances ADD COLUMN lease TEXT NOT NULL DEFAULT ''`,
}

// migrate applies what is missing. The version is SQLite's user_version,
// which is part of the same transaction.
func migrate(ctx context.Context, db *sql.DB) error {
	for {
		done, err := migrateOne(ctx, db)
		if done || err != nil {
			return err
		}
	}
}

func migrateOne(ctx context.Context, db *sql.DB) (done bool, err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer tx.Rollback() // no-op after a commit
	var version int
	if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return false, err
	}
	switch {
	case version == len(migrations):
		return true, nil
	case version > len(migrations):
		return false, api.Errorf(api.BadState, "schema version %d was written by a newer aegisd, this one knows up to %d: install the newer version again", version, len(migrations))
	}
	if _, err := tx.ExecContext(ctx, migrations[version]); err != nil {
		return false, fmt.Errorf("migration %d: %w", version+1, err)
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", version+1)); err != nil {
		return false, fmt.Errorf("migration %d: %w", version+1, err)
	}
	return false, tx.Commit()
}
