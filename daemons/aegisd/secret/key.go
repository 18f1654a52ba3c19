package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/store"
)

// keySize is the size of a master key and of those derived from it: AES-256.
const keySize = 32

// The purposes that keys are derived for. A new use of the master key needs a
// purpose of its own.
const (
	purposeID    = "aegisvm key id v1"
	purposeValue = "aegisvm secret value v1"
)

// key is a master key. It encrypts nothing itself.
type key [keySize]byte

func newKey() (k key) {
	rand.Read(k[:])
	return k
}

// sub derives the key of one purpose.
func (k key) sub(purpose string) ([]byte, error) {
	return hkdf.Expand(sha256.New, k[:], purpose, keySize)
}

// id names the key and tells nothing about it.
func (k key) id() string {
	sub, err := k.sub(purposeID)
	if err != nil {
		return "" // not with sizes that are constants
	}
	return hex.EncodeToString(sub[:8])
}

func (k key) aead() (cipher.AEAD, error) {
	sub, err := k.sub(purposeValue)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(sub)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// seal encrypts the value of a secret: a random nonce, then the ciphertext
// with its tag.
func (k key) seal(sec store.Secret, value string) (store.Secret, error) {
	aead, err := k.aead()
	if err != nil {
		return sec, fmt.Errorf("sealing secret %s: %w", sec.Name, err)
	}
	sec.KeyID, sec.Sealed = k.id(), aead.Seal(nil, nil, []byte(value), []byte(sec.Name))
	return sec, nil
}

// unseal is the reverse of seal.
func (k key) unseal(sec store.Secret) (string, error) {
	aead, err := k.aead()
	if err != nil {
		return "", fmt.Errorf("reading secret %s: %w", sec.Name, err)
	}
	value, err := aead.Open(nil, nil, sec.Sealed, []byte(sec.Name))
	if err != nil {
		return "", api.Errorf(api.Unavailable, "secret %s is damaged in the database: set it again", sec.Name)
	}
	return string(value), nil
}

// ring is the keys that rows may need, oldest first. New values are sealed
// with the last one.
type ring []key

func (r ring) current() key { return r[len(r)-1] }

func (r ring) find(id string) (key, bool) {
	for _, k := range r {
		if k.id() == id {
			return k, true
		}
	}
	return key{}, false
}

// reseal moves a secret to the current key.
func (r ring) reseal(sec store.Secret) (store.Secret, error) {
	if sec.KeyID == r.current().id() {
		return sec, nil
	}
	k, there := r.find(sec.KeyID)
	if !there {
		return sec, errKeyLost(sec)
	}
	value, err := k.unseal(sec)
	if err != nil {
		return sec, err
	}
	return r.current().seal(sec, value)
}

func errKeyLost(sec store.Secret) error {
	return api.Errorf(api.Unavailable, "secret %s needs master key %s, which is not there: put that key back, or delete the secret and set it again", sec.Name, sec.KeyID)
}
