package instance

import (
	"cmp"
	"context"
	"math"
	"regexp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/guestsession"
	"github.com/xfeldman/aegisvm/guest/proto"
)

// defaultTerm is the TERM of a terminal whose client says nothing.
const defaultTerm = "xterm"

var termGrammar = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9+._-]{0,63}$`)

func checkTTY(spec api.InstanceSpec) error { return checkTerminal(spec.Terminal) }

func checkTerminal(t api.Terminal) error {
	switch {
	case !t.TTY && (t != api.Terminal{}):
		return invalid("rows, cols and term without tty: ask for tty as well")
	case t.Term != "" && !termGrammar.MatchString(t.Term):
		return invalid("term %q: expected the name of a kind of terminal, such as xterm-256color", shorten(t.Term))
	}
	return checkSizeOf(t.Rows, t.Cols)
}

func checkSizeOf(rows, cols int) error {
	if rows < 0 || cols < 0 || rows > math.MaxUint16 || cols > math.MaxUint16 {
		return invalid("terminal of %d rows and %d columns: expected 0 to %d of each", rows, cols, math.MaxUint16)
	}
	return nil
}

// terminalOf is what the guest is asked for; nil for none.
func terminalOf(t api.Terminal) *guestsession.Terminal {
	if !t.TTY {
		return nil
	}
	return &guestsession.Terminal{Rows: uint16(t.Rows), Cols: uint16(t.Cols), Term: cmp.Or(t.Term, defaultTerm)}
}

// lifetimeOf tells what the primary process does without a client. One that
// goes on can be attached to again.
func lifetimeOf(spec api.InstanceSpec) proto.Lifetime {
	if spec.TTY || spec.Attach && !spec.AutoRemove {
		return proto.Lifetime_LIFETIME_DETACHED
	}
	return proto.Lifetime_LIFETIME_FREE
}

// streams dials the streams of a process of a boot.
func (o *owner) streams(ctx context.Context, b *boot, id string, tty, stdin bool) (*api.Streams, error) {
	if tty {
		return guestsession.TerminalStreams(ctx, o.dial(b), id)
	}
	return guestsession.Streams(ctx, o.dial(b), id, stdin)
}
