package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/xfeldman/aegisvm/api"
)

func (a *app) events() *cobra.Command {
	out := format("text")
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Follow the changes of all instances",
		Long: `Follow the changes of all instances, one a line, from now on until Ctrl-C. With
-o json each line is one object.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withAegis(cmd, func(ctx context.Context, aegis api.Aegis) error {
				return a.follow(ctx, aegis, out)
			})
		},
	}
	outputFlag(cmd, &out)
	return cmd
}

// follow prints events until ctx ends, which is no error.
func (a *app) follow(ctx context.Context, aegis api.Aegis, out format) error {
	events, err := aegis.Events(ctx)
	if err != nil {
		return err
	}
	for ev := range events {
		text := eventText(ev)
		if out == "json" {
			line, err := json.Marshal(ev)
			if err != nil {
				return fmt.Errorf("writing the output: %w", err)
			}
			text = string(line)
		}
		if err := a.say("%s\n", text); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return errors.New("aegisd ended the stream: it was stopped, or this program did not keep up: see 'aegis instance list' and follow again")
}

func eventText(ev api.Event) string {
	name := ev.Handle
	if name == "" {
		name = ev.Instance
	}
	text := fmt.Sprintf("%s %-8s %s %s", ev.Time.Local().Format(time.DateTime), ev.Type, name, ev.Phase)
	if ev.Message != "" {
		text += ": " + printable(ev.Message)
	}
	return text
}

// printable keeps what others wrote from playing with a terminal.
func printable(text string) string {
	var clean strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) {
			clean.WriteRune(r)
		} else {
			clean.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return clean.String()
}
