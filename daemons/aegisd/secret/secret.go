// Package secret owns the values that only programs in guests may see: how
// they are encrypted, and where the key is. It knows nothing of instances and
// hands a value out to nobody but who starts a program; what it tells, logs or
// returns as an error holds names only.
//
// A value is sealed with AES-256-GCM under a key derived from the master key
// for this purpose, with the secret's name as associated data, so that sealed
// values cannot change places. Each row names the master key that it needs: a
// key that is lost is told and never replaced by a new one.
package secret

import (
	"cmp"
	"context"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/store"
)

// The bounds of a secret's name in characters, and of their number.
const (
	MaxName    = 128
	MaxSecrets = 1000
)

// All stands for all secrets where names are asked for.
const All = "*"

var nameGrammar = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Records is where sealed values are kept; package store is the real one.
type Records interface {
	PutSecret(ctx context.Context, sec store.Secret, limit int) error
	AllSecrets(ctx context.Context) ([]store.Secret, error)
	DropSecret(ctx context.Context, name string) error
	ResealSecrets(ctx context.Context, reseal func(store.Secret) (store.Secret, error)) error
}

// Config is what a Keeper stands on.
type Config struct {
	Records Records
	// File is the path of the file with the master key, which is made when
	// the first secret is set.
	File string
	// Credentials is the folder of systemd's credentials; empty means that
	// there are none. A master key in it wins over the file.
	Credentials string
	Log         *slog.Logger
}

// Keeper keeps secrets. Its methods may be called at once. The master key is
// read for each call, so that one that was put back counts at once.
type Keeper struct {
	Config
	mu sync.Mutex // one call at a time: no row is sealed while the key changes
}

var _ api.SecretStore = (*Keeper)(nil)

// New makes a Keeper. It finishes a change of the key that was cut short; if
// it cannot, it tells the log, and calls that need the key say why.
func New(ctx context.Context, c Config) *Keeper {
	k := &Keeper{Config: c}
	k.Log = c.Log.With("component", "secret")
	if err := k.finishRotation(ctx); err != nil {
		k.Log.Warn("secrets cannot be used", "error", err)
	}
	return k
}

// SetSecret implements api.SecretStore.
func (k *Keeper) SetSecret(ctx context.Context, name, value string) (api.Secret, error) {
	if err := cmp.Or(CheckName(name), checkValue(name, value)); err != nil {
		return api.Secret{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	keys, _, err := k.open(ctx, true)
	if err != nil {
		return api.Secret{}, err
	}
	sec, err := keys.current().seal(store.Secret{Name: name, Created: time.Now().UTC()}, value)
	if err != nil {
		return api.Secret{}, err
	}
	if err := k.Records.PutSecret(ctx, sec, MaxSecrets); err != nil {
		return api.Secret{}, err
	}
	return api.Secret{Name: name, CreatedAt: sec.Created}, nil
}

// Secrets implements api.SecretStore. It needs no key.
func (k *Keeper) Secrets(ctx context.Context) ([]api.Secret, error) {
	rows, err := k.Records.AllSecrets(ctx)
	all := make([]api.Secret, len(rows))
	for i, row := range rows {
		all[i] = api.Secret{Name: row.Name, CreatedAt: row.Created}
	}
	return all, err
}

// DeleteSecret implements api.SecretStore. It needs no key, so that one can
// start anew when the key is lost.
func (k *Keeper) DeleteSecret(ctx context.Context, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.Records.DropSecret(ctx, name)
}

// Values reveals the named secrets. All stands for those that there are; a
// name that is missing or cannot be read is an error that says which.
func (k *Keeper) Values(ctx context.Context, names []string) (map[string]string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	rows, err := k.Records.AllSecrets(ctx)
	if err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	for _, name := range names {
		wanted[name] = true
	}
	rows = slices.DeleteFunc(rows, func(row store.Secret) bool { return !wanted[row.Name] && !wanted[All] })
	values, err := k.reveal(rows)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if _, there := values[name]; !there && name != All {
			return nil, api.Errorf(api.NotFound, "secret %s is not set: set it with `aegis secret set %s`", name, name)
		}
	}
	return values, nil
}

// CheckName refuses what is no environment variable's name.
func CheckName(name string) error {
	if len(name) > MaxName {
		return invalid("secret name of %d characters: at most %d are allowed", len(name), MaxName)
	}
	if !nameGrammar.MatchString(name) {
		return invalid("secret name %q: expected letters, digits and '_', not beginning with a digit", name)
	}
	return nil
}

// checkValue says what is wrong with a value without telling it.
func checkValue(name, value string) error {
	switch {
	case value == "":
		return invalid("secret %s: its value is empty: delete it instead", name)
	case len(value) > api.MaxSecret:
		return invalid("secret %s: its value of %d bytes is too long: at most %d are allowed", name, len(value), api.MaxSecret)
	case strings.ContainsRune(value, 0):
		return invalid("secret %s: its value contains a NUL byte: encode it, such as with base64", name)
	case !utf8.ValidString(value):
		return invalid("secret %s: its value is no UTF-8 text: encode it, such as with base64", name)
	}
	return nil
}

func invalid(format string, args ...any) error {
	return api.Errorf(api.InvalidArgument, format, args...)
}
