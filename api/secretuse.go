package api

import "context"

// SecretUse is the part of Aegis that says which secrets an instance gets.
type SecretUse interface {
	// UseSecrets replaces the list of secrets that the instance's program gets
	// under their own names, as InstanceSpec.Secrets has it. A program that
	// runs keeps what it has. BadState while the instance is starting.
	UseSecrets(ctx context.Context, ref string, names []string) (UsedSecrets, error)
}

// UsedSecrets is what an instance's program gets.
type UsedSecrets struct {
	// Keys are the names of all its secrets, sorted.
	Keys []string `json:"secret_keys"`
	// RestartRequired says that its program still runs with the former ones.
	RestartRequired bool `json:"restart_required,omitempty"`
}
