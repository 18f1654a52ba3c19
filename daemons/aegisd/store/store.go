// Package store owns aegisd's database: one row per instance, committed
// before anything is answered or started. It knows nothing of machines; what
// a row means is package instance's.
//
// The file is SQLite in WAL mode with synchronous=FULL: what was committed
// survives kill -9 and a power cut. One connection writes, so there is no
// lock to wait for but another program's, and a lock file beside the database
// keeps a second aegisd out.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"modernc.org/sqlite" // also registers the driver "sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/xfeldman/aegisvm/api"
)

// Store is an open database.
type Store struct {
	db   *sql.DB
	lock *os.File
}

// settings are those of the one connection: wait 5 s for somebody else's lock
// (a backup), take the write lock when a transaction begins, sync at every
// commit, keep at most 1 MiB of pages in memory.
var settings = url.Values{
	"_txlock": {"immediate"},
	"_pragma": {
		"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)",
		"foreign_keys(ON)", "cache_size(-1024)", "wal_autocheckpoint(256)",
	},
}

// Open opens the database file at path, makes it if there is none, and brings
// it to this version's schema. It fails with Unavailable when another aegisd
// has it and with BadState when a newer aegisd wrote it.
func Open(ctx context.Context, path string) (*Store, error) {
	lock, err := takeLock(path + ".lock")
	if err != nil {
		return nil, err
	}
	s := &Store{lock: lock}
	if err := s.open(ctx, path); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Store) open(ctx context.Context, path string) error {
	if err := private(path); err != nil {
		return fmt.Errorf("database %s: %w", path, err)
	}
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: settings.Encode()}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return fmt.Errorf("database %s: %w", path, err)
	}
	db.SetMaxOpenConns(1)
	s.db = db
	if err := migrate(ctx, db); err != nil {
		return fmt.Errorf("database %s: %w", path, translate(err))
	}
	return nil
}

// private makes the file readable by its owner only before SQLite would make
// it with the umask's rights: environments may hold secrets.
func private(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// Close writes the log back into the database and lets another aegisd in.
func (s *Store) Close() error {
	var err error
	if s.db != nil {
		err = s.db.Close()
	}
	return errors.Join(err, s.lock.Close())
}

// inTx runs fn in one immediate transaction.
func (s *Store) inTx(ctx context.Context, what string, fn func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", what, translate(err))
	}
	defer tx.Rollback() // no-op after a commit
	if err := fn(tx); err != nil {
		return fmt.Errorf("%s: %w", what, translate(err))
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("%s: %w", what, translate(err))
	}
	return nil
}

// translate gives SQLite's failures that an operator can do something about
// a code and a sentence.
func translate(err error) error {
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return err
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_FULL:
		return api.Errorf(api.LimitExceeded, "the disk with aegisd's database is full: free some space: %w", err)
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM:
		return api.Errorf(api.Unavailable, "aegisd cannot write its database: check the file system and the rights: %w", err)
	case sqlite3.SQLITE_IOERR:
		return api.Errorf(api.Unavailable, "aegisd's database: the file system failed (is the disk full?): %w", err)
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return api.Errorf(api.Internal, "aegisd's database is damaged: restore a backup or move it away: %w", err)
	default:
		return err
	}
}

// nanos and timeOf keep times as integer nanoseconds, NULL for none.
func nanos(t *time.Time) sql.NullInt64 {
	if t == nil {
		return sql.NullInt64{}
	}
	return sql.NullInt64{Int64: t.UnixNano(), Valid: true}
}

func timeOf(n sql.NullInt64) *time.Time {
	if !n.Valid {
		return nil
	}
	t := time.Unix(0, n.Int64).UTC()
	return &t
}

func takeLock(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("database folder: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrPermission) {
		return nil, api.Errorf(api.Denied, "database lock %s: permission denied: it belongs to another user", path)
	}
	if err != nil {
		return nil, fmt.Errorf("database lock: %w", err)
	}
	if err := flock(f); err != nil {
		f.Close()
		return nil, api.Errorf(api.Unavailable, "another aegisd is running on %s: stop it with `aegis down`", filepath.Dir(path))
	}
	return f, nil
}
