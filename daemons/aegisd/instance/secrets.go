package instance

import (
	"context"
	"maps"
	"slices"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/secret"
	"github.com/xfeldman/aegisvm/image"
)

// Secrets keeps secrets; package secret has the real one.
type Secrets interface {
	api.SecretStore
	// Values reveals secrets; the name "*" stands for all. One that is missing
	// or cannot be read is an error that names it.
	Values(ctx context.Context, names []string) (map[string]string, error)
}

// SetSecret implements api.Aegis.
func (s *Service) SetSecret(ctx context.Context, name, value string) (api.Secret, error) {
	kept, err := s.Config.Secrets.SetSecret(ctx, name, value)
	return kept, atBoundary(err)
}

// Secrets implements api.Aegis.
func (s *Service) Secrets(ctx context.Context) ([]api.Secret, error) {
	all, err := s.Config.Secrets.Secrets(ctx)
	return all, atBoundary(err)
}

// DeleteSecret implements api.Aegis.
func (s *Service) DeleteSecret(ctx context.Context, name string) error {
	return atBoundary(s.Config.Secrets.DeleteSecret(ctx, name))
}

// RotateKey implements api.Aegis. It goes on when the caller does not wait.
func (s *Service) RotateKey(context.Context) error {
	ctx, cancel := s.bounded()
	defer cancel()
	return atBoundary(s.Config.Secrets.RotateKey(ctx))
}

func checkSecrets(spec api.InstanceSpec) error {
	if n := len(spec.Secrets) + len(spec.EnvSecrets); n > secret.MaxSecrets {
		return invalid("%d secrets: at most %d are allowed", n, secret.MaxSecrets)
	}
	for _, name := range spec.Secrets {
		if name == secret.All {
			continue
		}
		if err := secret.CheckName(name); err != nil {
			return err
		}
	}
	for _, variable := range slices.Sorted(maps.Keys(spec.EnvSecrets)) {
		if secret.CheckName(variable) != nil {
			return invalid("env %q of a secret: expected letters, digits and '_', at most %d, not beginning with a digit", shorten(variable), secret.MaxName)
		}
		if err := secret.CheckName(spec.EnvSecrets[variable]); err != nil {
			return err
		}
	}
	return nil
}

// secretKeys names the secrets that a spec asks for.
func secretKeys(spec api.InstanceSpec) []string {
	keys := slices.AppendSeq(slices.Clone(spec.Secrets), maps.Values(spec.EnvSecrets))
	slices.Sort(keys)
	return slices.Compact(keys)
}

// environment is the whole environment of a program of the instance. It is
// made anew for each start and kept nowhere.
func (o *owner) environment(ctx context.Context, conf image.Config) ([]string, error) {
	secrets, err := o.secretEnv(ctx)
	if err != nil {
		return nil, err
	}
	env := environment(conf.Env, secrets, o.spec.Env)
	total := 0
	for _, kv := range append(slices.Clone(env), o.spec.Command...) {
		total += len(kv) + 1
	}
	if len(secrets) > 0 && total > maxArguments {
		return nil, api.Errorf(api.LimitExceeded, "command and environment take %d bytes with the secrets: at most %d are allowed: ask for fewer secrets", total, maxArguments)
	}
	return env, nil
}

// secretEnv looks up the variables that come from secrets. A variable that
// was named wins over one that "*" brings.
func (o *owner) secretEnv(ctx context.Context) (map[string]string, error) {
	names := secretKeys(o.spec)
	if len(names) == 0 {
		return nil, nil
	}
	values, err := o.svc.Config.Secrets.Values(ctx, names)
	if err != nil {
		return nil, err
	}
	env := map[string]string{}
	if slices.Contains(o.spec.Secrets, secret.All) {
		maps.Copy(env, values)
	}
	for _, name := range o.spec.Secrets {
		if name != secret.All {
			env[name] = values[name]
		}
	}
	for variable, name := range o.spec.EnvSecrets {
		env[variable] = values[name]
	}
	return env, nil
}
