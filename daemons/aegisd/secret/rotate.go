package secret

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/store"
)

// open reads the keys and the rows. Where there is neither a key nor a row it
// makes a key if it may; where a row needs a key that is not there it refuses,
// so that no second key comes to live beside a lost one.
func (k *Keeper) open(ctx context.Context, mayMake bool) (ring, []store.Secret, error) {
	rows, err := k.Records.AllSecrets(ctx)
	if err != nil {
		return nil, nil, err
	}
	keys, err := k.keys()
	if err != nil {
		return nil, nil, err
	}
	for _, row := range rows {
		if _, there := keys.find(row.KeyID); !there {
			return nil, nil, errKeyLost(row)
		}
	}
	if len(keys) == 0 && mayMake {
		keys = ring{newKey()}
		err = k.writeFile(keys)
	}
	return keys, rows, err
}

// keys reads every key there is, the one for new values last: those of the
// file serve rows from before there was a credential.
func (k *Keeper) keys() (ring, error) {
	given, err := k.credentials()
	if err != nil {
		return nil, err
	}
	kept, err := k.readFile()
	if err != nil {
		return nil, err
	}
	return append(kept, given...), nil
}

// reveal unseals rows.
func (k *Keeper) reveal(rows []store.Secret) (map[string]string, error) {
	values := make(map[string]string, len(rows))
	if len(rows) == 0 {
		return values, nil
	}
	keys, err := k.keys()
	if err != nil {
		return nil, api.Errorf(api.Unavailable, "secret %s cannot be read: %w", rows[0].Name, err)
	}
	for _, row := range rows {
		key, there := keys.find(row.KeyID)
		if !there {
			return nil, errKeyLost(row)
		}
		if values[row.Name], err = key.unseal(row); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// RotateKey implements api.SecretStore. The file holds the old key and the new
// one until the rows are committed, so that it may be cut short anywhere; the
// next start finishes it.
//
// A credential is the administrator's to change: then the rows move to the one
// that is there now.
func (k *Keeper) RotateKey(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	given, err := k.credentials()
	if err != nil {
		return err
	}
	keys, rows, err := k.open(ctx, false)
	if err != nil {
		return err
	}
	switch {
	case len(given) == 0 && len(keys) > 1: // the last one failed: go on with its key
	case len(given) == 0:
		keys = append(keys, newKey())
		if err := k.writeFile(keys); err != nil {
			return err
		}
	case !anyNeedsMove(rows, keys):
		return api.Errorf(api.BadState, "every secret is encrypted with credential %s already: put a new key there and the old one into %s, restart aegisd and try again", credential, credentialPrevious)
	}
	return k.move(ctx, keys)
}

func anyNeedsMove(rows []store.Secret, keys ring) bool {
	for _, row := range rows {
		if row.KeyID != keys.current().id() {
			return true
		}
	}
	return false
}

// move encrypts all rows with the current key in one transaction and then
// forgets the others.
func (k *Keeper) move(ctx context.Context, keys ring) error {
	if err := k.Records.ResealSecrets(ctx, keys.reseal); err != nil {
		return err
	}
	if err := k.forgetOld(keys.current()); err != nil {
		return err
	}
	k.Log.Info("secrets are encrypted with a new master key", "key", keys.current().id())
	return nil
}

// forgetOld leaves nothing in the file but the current key, or no file where
// that is a credential.
func (k *Keeper) forgetOld(current key) error {
	kept, err := k.readFile()
	switch {
	case err != nil:
		return err
	case len(kept) == 0:
		return nil
	case kept.current() == current:
		return k.writeFile(ring{current})
	}
	if err := os.Remove(k.File); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return api.Errorf(api.Unavailable, "removing the old master key: %w", err)
	}
	if err := syncDir(filepath.Dir(k.File)); err != nil {
		return api.Errorf(api.Unavailable, "removing the old master key: %w", err)
	}
	return nil
}

// finishRotation goes on where a rotation was cut short, which shows in a
// file with more than one key.
func (k *Keeper) finishRotation(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	kept, err := k.readFile()
	if err != nil {
		return err
	}
	if len(kept) < 2 {
		return nil
	}
	keys, _, err := k.open(ctx, false)
	if err != nil {
		return err
	}
	return k.move(ctx, keys)
}
