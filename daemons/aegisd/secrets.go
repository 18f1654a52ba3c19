package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"syscall"

	"github.com/xfeldman/aegisvm/daemons/aegisd/secret"
	"github.com/xfeldman/aegisvm/daemons/aegisd/store"
)

// newSecrets keeps secrets in the database; their master key is a credential
// of the service where systemd gives us one, else a file beside the database.
func newSecrets(ctx context.Context, o options, db *store.Store, log *slog.Logger) *secret.Keeper {
	return secret.New(ctx, secret.Config{
		Records: db, File: filepath.Join(o.state, "master.key"), Credentials: o.credentials, Log: log,
	})
}

// withoutCoreDumps keeps what we hold in memory off the disk when we crash,
// and the memory of the guests as well: our children inherit it.
func withoutCoreDumps(log *slog.Logger) {
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		log.Warn("core dumps are not turned off", "error", err)
	}
}
