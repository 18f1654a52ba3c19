package secret

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/google/renameio/v2"

	"github.com/xfeldman/aegisvm/api"
)

// The credentials of systemd that may hold a master key; the second one keeps
// an earlier key until rotate-key has run.
const (
	credential         = "aegis-master-key"
	credentialPrevious = "aegis-master-key-previous"
)

// maxKeyFile bounds what is read of a file with keys.
const maxKeyFile = 4096

// credentials reads the keys that systemd gave us, oldest first; none is no
// error.
func (k *Keeper) credentials() (ring, error) {
	var keys ring
	if k.Credentials == "" {
		return nil, nil
	}
	for _, name := range []string{credentialPrevious, credential} {
		raw, err := os.ReadFile(filepath.Join(k.Credentials, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, api.Errorf(api.Unavailable, "credential %s: %w", name, err)
		}
		key, err := parseCredential(raw)
		if err != nil {
			return nil, api.Errorf(api.Unavailable, "credential %s: %w", name, err)
		}
		keys = append(keys, key)
	}
	if _, err := os.Stat(filepath.Join(k.Credentials, credential)); len(keys) > 0 && err != nil {
		return nil, api.Errorf(api.Unavailable, "there is credential %s and no %s: give aegisd both", credentialPrevious, credential)
	}
	return keys, nil
}

// parseCredential takes a key as 32 bytes, or in hex with or without the end
// of a line.
func parseCredential(raw []byte) (key, error) {
	if len(raw) == keySize {
		return key(raw), nil
	}
	return parseHex(bytes.TrimSuffix(raw, []byte("\n")))
}

func parseHex(text []byte) (k key, err error) {
	if len(text) == 2*keySize {
		if _, err := hex.Decode(k[:], text); err == nil {
			return k, nil
		}
	}
	return k, fmt.Errorf("it holds no key: expected %d bytes, or %d hexadecimal digits", keySize, 2*keySize)
}

// readFile reads the keys of the file, one a line in hex, oldest first. A file
// that is not there has none; one that is there and has none is damaged.
func (k *Keeper) readFile() (ring, error) {
	f, err := os.OpenFile(k.File, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, api.Errorf(api.Unavailable, "master key: %w", err)
	}
	defer f.Close()
	fi, err := f.Stat()
	switch {
	case err != nil:
		return nil, api.Errorf(api.Unavailable, "master key: %w", err)
	case !fi.Mode().IsRegular():
		return nil, api.Errorf(api.Unavailable, "master key %s is no regular file: put the right one back", k.File)
	case fi.Mode().Perm()&0o077 != 0:
		return nil, api.Errorf(api.Unavailable, "master key %s may be read by others: make it private again with chmod 600", k.File)
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, api.Errorf(api.Unavailable, "master key: %w", err)
	}
	keys, err := parseFile(raw)
	if err != nil {
		return nil, api.Errorf(api.Unavailable, "master key %s is damaged: put a copy back, or delete all secrets and then this file: %w", k.File, err)
	}
	return keys, nil
}

func parseFile(raw []byte) (ring, error) {
	text, whole := bytes.CutSuffix(raw, []byte("\n"))
	if !whole {
		return nil, errors.New("its last line is cut off")
	}
	var keys ring
	for _, line := range bytes.Split(text, []byte("\n")) {
		key, err := parseHex(line)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// writeFile replaces the file as a whole; when it returns, the keys survive a
// loss of power.
func (k *Keeper) writeFile(keys ring) error {
	var text []byte
	for _, key := range keys {
		text = append(hex.AppendEncode(text, key[:]), '\n')
	}
	err := renameio.WriteFile(k.File, text, 0o600, renameio.IgnoreUmask())
	if err == nil {
		err = syncDir(filepath.Dir(k.File))
	}
	if err != nil {
		return api.Errorf(api.Unavailable, "writing the master key: %w", err)
	}
	return nil
}

func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
