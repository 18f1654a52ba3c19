package api

import (
	"context"
	"time"
)

// Secret is what a client sees of a secret: everything but its value.
type Secret struct {
	Name string `json:"name"`
	// CreatedAt is when the value was set last.
	CreatedAt time.Time `json:"created_at"`
}

// SecretStore is the part of Aegis that keeps values which only programs in
// guests may see. There is no way to read one back.
type SecretStore interface {
	// SetSecret keeps a value under a name, in place of an earlier one. A name
	// is an environment variable's: [A-Za-z_][A-Za-z0-9_]*, at most 128
	// characters. A value is UTF-8 text of 1 to 65536 bytes without NUL.
	// Instances get it when they start next.
	SetSecret(ctx context.Context, name, value string) (Secret, error)
	// Secrets tells the names, sorted.
	Secrets(ctx context.Context) ([]Secret, error)
	// DeleteSecret forgets a secret; NotFound where there is none.
	DeleteSecret(ctx context.Context, name string) error
	// RotateKey encrypts every secret anew with a new master key.
	RotateKey(ctx context.Context) error
}

// MaxSecret is how long a secret's value may be, in bytes.
const MaxSecret = 64 << 10
