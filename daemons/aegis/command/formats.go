package command

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/xfeldman/aegisvm/api"
)

// listing is the flag -o of what prints instances, with --quiet.
type listing struct {
	format string // text, wide, json, yaml or name
	quiet  bool
}

func (l *listing) String() string { return l.format }
func (l *listing) Type() string   { return "text|wide|json|yaml|name" }

func (l *listing) Set(s string) error {
	switch s {
	case "text", "wide", "json", "yaml", "name":
		l.format = s
		return nil
	}
	return errors.New("expected text, wide, json, yaml or name")
}

// addFlags gives a command -o and --quiet.
func (l *listing) addFlags(cmd *cobra.Command) {
	l.format = "text"
	cmd.Flags().VarP(l, "output", "o", "output format")
	cmd.Flags().BoolVarP(&l.quiet, "quiet", "q", false, "print ids only")
}

// special prints v where the format is one for programs; names are what
// --quiet and -o name print instead.
func (a *app) special(l listing, v any, all ...api.Instance) (done bool, err error) {
	switch {
	case l.quiet:
		for _, in := range all {
			err = errors.Join(err, a.say("%s\n", in.ID))
		}
		return true, err
	case l.format == "name":
		for _, in := range all {
			err = errors.Join(err, a.say("%s\n", nameOf(in)))
		}
		return true, err
	case l.format == "json":
		return true, a.json(v)
	case l.format == "yaml":
		return true, a.yaml(v)
	}
	return false, nil
}

// yaml prints v with the names and the order that it has in JSON.
func (a *app) yaml(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("writing the output: %w", err)
	}
	var node yaml.Node
	if err := yaml.Unmarshal(text, &node); err != nil { // JSON is YAML
		return fmt.Errorf("writing the output: %w", err)
	}
	block(&node)
	out, err := yaml.Marshal(&node)
	if err != nil {
		return fmt.Errorf("writing the output: %w", err)
	}
	return a.say("%s", out)
}

// block takes the braces and quotes of JSON from a document; the encoder sets
// those quotes again that a value needs.
func block(n *yaml.Node) {
	n.Style = 0
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
		var quoted yaml.Node
		quoted.SetString(n.Value)
		n.Style = quoted.Style
	}
	for _, c := range n.Content {
		block(c)
	}
}
