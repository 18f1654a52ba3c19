package command

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegis/follow"
)

func (a *app) events() *cobra.Command {
	out := format("text")
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Follow the changes of all instances",
		Long: `Follow the changes of all instances, one a line, from now on until Ctrl-C. With
-o json each line is one object.

It goes on when aegisd is started again: a line of the type gap says that the
stream broke, and the lines behind it what is not as it was before.`,
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
	return follow.Reader{Aegis: aegis, Notice: a.notice}.Events(ctx, func(ev api.Event) error {
		text := eventText(ev)
		if out == "json" {
			line, err := json.Marshal(ev)
			if err != nil {
				return fmt.Errorf("writing the output: %w", err)
			}
			text = string(line)
		}
		return a.say("%s\n", text)
	})
}

func eventText(ev api.Event) string {
	about := strings.TrimSpace(cmp.Or(ev.Handle, ev.Instance) + " " + string(ev.Phase))
	text := fmt.Sprintf("%s %-8s %s", ev.Time.Local().Format(time.DateTime), ev.Type, about)
	if ev.ExecID != "" {
		text += " " + printable(ev.ExecID)
	}
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
