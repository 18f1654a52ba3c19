package secret

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/store"
)

// place is a state directory, which outlives Keepers.
type place struct {
	*testing.T
	dir   string
	creds string
	db    *store.Store
}

func newPlace(t *testing.T) *place {
	p := &place{T: t, dir: t.TempDir()}
	p.open()
	t.Cleanup(func() { p.db.Close() })
	return p
}

func (p *place) open() {
	p.Helper()
	db, err := store.Open(context.Background(), filepath.Join(p.dir, "aegis.db"))
	if err != nil {
		p.Fatal(err)
	}
	p.db = db
}

func (p *place) keyFile() string { return filepath.Join(p.dir, "master.key") }

// keeper is a new one over the place, as after a restart.
func (p *place) keeper() *Keeper { return p.keeperOver(p.db) }

func (p *place) keeperOver(r Records) *Keeper {
	return New(p.Context(), Config{Records: r, File: p.keyFile(), Credentials: p.creds, Log: slog.New(slog.DiscardHandler)})
}

func (p *place) set(k *Keeper, name, value string) {
	p.Helper()
	if _, err := k.SetSecret(p.Context(), name, value); err != nil {
		p.Fatalf("setting %s: %v", name, err)
	}
}

// want compares all secrets.
func (p *place) want(k *Keeper, want map[string]string) {
	p.Helper()
	got, err := k.Values(p.Context(), []string{All})
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		p.Errorf("values: %v %s", err, diff)
	}
}

func (p *place) read() []byte {
	p.Helper()
	raw, err := os.ReadFile(p.keyFile())
	if err != nil {
		p.Fatal(err)
	}
	return raw
}

func (p *place) write(path string, raw []byte) {
	p.Helper()
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		p.Fatal(err)
	}
}

// lines counts the keys of the file.
func (p *place) lines() int { return bytes.Count(p.read(), []byte("\n")) }

func TestValuesComeBackAfterARestart(t *testing.T) {
	p := newPlace(t)
	k := p.keeper()
	if _, err := os.Stat(p.keyFile()); !os.IsNotExist(err) {
		t.Errorf("a key without a secret: %v", err)
	}
	p.set(k, "A", "1")
	p.set(k, "B", "ü\n")
	p.set(k, "A", "2")
	fi, err := os.Stat(p.keyFile())
	if err != nil || fi.Mode() != 0o600 {
		t.Errorf("key file: %v, %v", fi, err)
	}
	p.want(p.keeper(), map[string]string{"A": "2", "B": "ü\n"})
	got, err := k.Values(t.Context(), []string{"B"})
	if diff := cmp.Diff(map[string]string{"B": "ü\n"}, got); err != nil || diff != "" {
		t.Errorf("one: %v %s", err, diff)
	}
	if _, err := k.Values(t.Context(), []string{"B", "C"}); api.CodeOf(err) != api.NotFound || !strings.Contains(err.Error(), "secret C ") {
		t.Errorf("a missing one: %v", err)
	}
}

func TestSameValueIsNeverSealedTheSame(t *testing.T) {
	k := newKey()
	one, err := k.seal(store.Secret{Name: "A"}, "value")
	two, err2 := k.seal(store.Secret{Name: "A"}, "value")
	if err != nil || err2 != nil || bytes.Equal(one.Sealed, two.Sealed) || bytes.Contains(one.Sealed, []byte("value")) {
		t.Errorf("sealed: %x %x, %v %v", one.Sealed, two.Sealed, err, err2)
	}
	id, err := k.sub(purposeID)
	value, err2 := k.sub(purposeValue)
	if err != nil || err2 != nil || bytes.Equal(id, value) || bytes.Equal(value, k[:]) || strings.Contains(hex.EncodeToString(value), k.id()) {
		t.Error("purposes share a key")
	}
}

func TestSealedValuesCannotChangePlacesOrBytes(t *testing.T) {
	p := newPlace(t)
	k := p.keeper()
	p.set(k, "A", "1")
	p.set(k, "B", "2")
	rows, err := p.db.AllSecrets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	moved, cut, flipped := rows[1], rows[0], rows[0]
	moved.Name = "A"
	cut.Sealed = cut.Sealed[:5]
	flipped.Sealed = bytes.Clone(flipped.Sealed)
	flipped.Sealed[len(flipped.Sealed)-1] ^= 1
	for name, row := range map[string]store.Secret{"moved": moved, "cut": cut, "flipped": flipped} {
		if err := p.db.PutSecret(t.Context(), row, MaxSecrets); err != nil {
			t.Fatal(err)
		}
		if _, err := k.Values(t.Context(), []string{"A"}); api.CodeOf(err) != api.Unavailable || !strings.Contains(err.Error(), "secret A ") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := k.Values(t.Context(), []string{"B"}); err != nil {
			t.Errorf("%s: the other one: %v", name, err)
		}
	}
}

func TestLostOrDamagedKeyIsToldAndNeverReplaced(t *testing.T) {
	other := hex.EncodeToString(bytes.Repeat([]byte{7}, keySize)) + "\n"
	for name, c := range map[string]struct {
		damage func(p *place, whole []byte)
		word   string
	}{
		"gone":        {func(p *place, _ []byte) { os.Remove(p.keyFile()) }, "master key"},
		"empty":       {func(p *place, _ []byte) { p.write(p.keyFile(), nil) }, "damaged"},
		"cut":         {func(p *place, b []byte) { p.write(p.keyFile(), b[:20]) }, "damaged"},
		"without end": {func(p *place, b []byte) { p.write(p.keyFile(), b[:len(b)-1]) }, "cut off"},
		"no hex":      {func(p *place, b []byte) { p.write(p.keyFile(), append([]byte("x"), b[1:]...)) }, "damaged"},
		"another":     {func(p *place, _ []byte) { p.write(p.keyFile(), []byte(other)) }, "master key"},
		"public":      {func(p *place, _ []byte) { os.Chmod(p.keyFile(), 0o644) }, "chmod 600"},
		"a folder": {func(p *place, _ []byte) {
			os.Remove(p.keyFile())
			os.Mkdir(p.keyFile(), 0o700)
		}, "regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			p.set(p.keeper(), "A", "1")
			whole := p.read()
			c.damage(p, whole)
			before, _ := os.ReadFile(p.keyFile())
			k := p.keeper()
			_, set := k.SetSecret(t.Context(), "B", "2")
			_, values := k.Values(t.Context(), []string{"A"})
			for what, err := range map[string]error{"set": set, "values": values, "rotate": k.RotateKey(t.Context())} {
				if api.CodeOf(err) != api.Unavailable || !strings.Contains(err.Error(), c.word) {
					t.Errorf("%s: %v", what, err)
				}
			}
			if after, _ := os.ReadFile(p.keyFile()); !bytes.Equal(before, after) {
				t.Error("the file was changed")
			}
			if all, err := k.Secrets(t.Context()); err != nil || len(all) != 1 {
				t.Errorf("list: %v, %v", all, err)
			}
			os.Remove(p.keyFile())
			p.write(p.keyFile(), whole)
			p.want(k, map[string]string{"A": "1"})
		})
	}
}

func TestAfterALossOneCanStartAnew(t *testing.T) {
	p := newPlace(t)
	k := p.keeper()
	p.set(k, "A", "1")
	os.Remove(p.keyFile())
	if err := k.DeleteSecret(t.Context(), "A"); err != nil {
		t.Fatal(err)
	}
	p.set(k, "A", "2")
	p.want(k, map[string]string{"A": "2"})
}

func TestOnlySoManySecretsAreKept(t *testing.T) {
	p := newPlace(t)
	for _, c := range []struct {
		name string
		code api.Code
	}{{"A", ""}, {"B", ""}, {"C", api.LimitExceeded}, {"A", ""}} {
		err := p.db.PutSecret(t.Context(), store.Secret{Name: c.name, Sealed: []byte{}}, 2)
		if api.CodeOf(err) != c.code {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestCredentialIsTakenInItsForms(t *testing.T) {
	raw := bytes.Repeat([]byte{0xab}, keySize)
	text := hex.EncodeToString(raw)
	for name, c := range map[string]struct {
		content string
		bad     bool
	}{
		"raw": {string(raw), false}, "hex": {text, false}, "hex and a newline": {text + "\n", false},
		"empty": {"", true}, "short": {text[2:], true}, "two lines": {text + "\n" + text + "\n", true}, "no hex": {"x" + text[1:], true},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			p.creds = t.TempDir()
			p.write(filepath.Join(p.creds, credential), []byte(c.content))
			_, err := p.keeper().SetSecret(t.Context(), "A", "1")
			if (err != nil) != c.bad || c.bad && !strings.Contains(err.Error(), credential) {
				t.Errorf("set: %v", err)
			}
			if _, err := os.Stat(p.keyFile()); !os.IsNotExist(err) {
				t.Errorf("there is a key file: %v", err)
			}
		})
	}
}

func TestSecretsMoveFromFileToCredentialToCredential(t *testing.T) {
	p := newPlace(t)
	p.set(p.keeper(), "A", "1")
	p.creds = t.TempDir()
	put := func(name string, b byte) {
		p.write(filepath.Join(p.creds, name), bytes.Repeat([]byte{b}, keySize))
	}
	put(credential, 1)
	k := p.keeper()
	p.set(k, "B", "2")
	want := map[string]string{"A": "1", "B": "2"}
	p.want(k, want)
	if err := k.RotateKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(p.keyFile()); !os.IsNotExist(err) {
		t.Errorf("the old key is still there: %v", err)
	}
	if err := k.RotateKey(t.Context()); api.CodeOf(err) != api.BadState || !strings.Contains(err.Error(), credentialPrevious) {
		t.Errorf("rotating without a new credential: %v", err)
	}
	put(credential, 2)
	if _, err := k.Values(t.Context(), []string{"A"}); api.CodeOf(err) != api.Unavailable {
		t.Errorf("without the previous key: %v", err)
	}
	put(credentialPrevious, 1)
	p.want(k, want)
	if err := k.RotateKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	os.Remove(filepath.Join(p.creds, credentialPrevious))
	p.want(k, want)
	put(credentialPrevious, 1)
	os.Remove(filepath.Join(p.creds, credential))
	if _, err := k.Values(t.Context(), []string{"A"}); err == nil || !strings.Contains(err.Error(), "give aegisd both") {
		t.Errorf("with the previous key only: %v", err)
	}
}

var errCut = errors.New("cut short for the test")
