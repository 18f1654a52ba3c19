package command

import (
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// fromSecret begins a value that names a secret.
const fromSecret = "secret."

var secretName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// variables are the environment that the flags --env and --secret ask for. Of
// each variable the last flag wins.
type variables struct {
	literal environment
	secret  map[string]string // variable: secret
	all     *bool
}

func newVariables() variables {
	return variables{literal: environment{}, secret: map[string]string{}, all: new(bool)}
}

func (v variables) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.Var(v, "env", "environment variable NAME=VALUE; NAME=secret.SECRET for the value of a secret, NAME for the secret of that name, '*' for all secrets; may be repeated")
	flags.Var(secretFlag{v}, "secret", "the same as --env NAME")
	flags.Lookup("secret").DefValue = "" // there is none
}

func (v variables) String() string { return "" }
func (v variables) Type() string   { return "VARIABLE" }

func (v variables) Set(s string) error {
	name, value, pair := strings.Cut(s, "=")
	source, isSecret := strings.CutPrefix(value, fromSecret)
	switch {
	case !pair && v.setSecret(s) != nil:
		return errors.New("expected NAME=VALUE, NAME=secret.SECRET, the name of a secret, or '*' for all secrets")
	case !pair:
		return nil
	case isSecret && !secretName.MatchString(source):
		return errors.New(`expected the name of a secret after "secret."; to pass that text itself, set it as a secret`)
	case isSecret && secretName.MatchString(name):
		delete(v.literal, name)
		v.secret[name] = source
		return nil
	default:
		delete(v.secret, name)
		return v.literal.Set(s)
	}
}

func (v variables) setSecret(s string) error {
	switch {
	case s == "*":
		*v.all = true
	case secretName.MatchString(s):
		delete(v.literal, s)
		v.secret[s] = s
	default:
		return errors.New("expected the name of a secret, or '*' for all secrets")
	}
	return nil
}

// secrets are those that keep their name.
func (v variables) secrets() []string {
	var names []string
	if *v.all {
		names = append(names, "*")
	}
	for _, name := range slices.Sorted(maps.Keys(v.secret)) {
		if v.secret[name] == name {
			names = append(names, name)
		}
	}
	return names
}

// renamed are the variables that have another name than their secret.
func (v variables) renamed() map[string]string {
	renamed := maps.Clone(v.secret)
	maps.DeleteFunc(renamed, func(name, source string) bool { return name == source })
	return renamed
}

// secretFlag is the older flag --secret.
type secretFlag struct{ variables }

func (f secretFlag) Type() string       { return "NAME" }
func (f secretFlag) Set(s string) error { return f.setSecret(s) }
