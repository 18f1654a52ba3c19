// Package progress shows on a terminal, in one line that is rewritten and
// then erased, what somebody waits for. It never writes to anything else.
package progress

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/xfeldman/aegisvm/api"
)

// patience is how long a wait may take without being explained.
const patience = time.Second

// Possible tells whether f is a terminal that understands being rewritten.
func Possible(f *os.File) bool {
	return os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}

// Show explains on terminal why instance id is not there yet, beginning after
// a second. The returned function ends it and erases the line.
func Show(ctx context.Context, aegis api.Aegis, id string, terminal *os.File) (stop func()) {
	return show(ctx, aegis, id, &line{terminal: terminal}, time.After(patience))
}

func show(ctx context.Context, aegis api.Aegis, id string, l *line, due <-chan time.Time) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var follower sync.WaitGroup
	follower.Go(func() { l.follow(ctx, aegis, id, due) })
	return func() {
		cancel()
		follower.Wait()
	}
}

// line is one line of a terminal.
type line struct {
	terminal *os.File
	drawn    string // what stands there
}

// follow rewrites the line with each event. Events that cannot be had make it
// say less, not fail.
func (l *line) follow(ctx context.Context, aegis api.Aegis, id string, due <-chan time.Time) {
	defer l.erase()
	text, shown := "starting the machine", false
	events, err := aegis.Events(ctx)
	if err != nil {
		events = nil
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-due:
			shown = true
		case ev, more := <-events:
			switch {
			case !more:
				events = nil
			case ev.Instance == id && ev.Type == api.EventProgress && ev.Message != "":
				text = ev.Message
			}
		}
		if shown {
			l.draw(text)
		}
	}
}

// draw replaces the line. It is cut to the terminal's width: a wrapped line
// could not be erased.
func (l *line) draw(text string) {
	if text == l.drawn {
		return
	}
	l.drawn = text
	text = "aegis: " + text
	if width, _, err := term.GetSize(int(l.terminal.Fd())); err == nil && width > 0 {
		r := []rune(text)
		text = string(r[:min(len(r), width-1)])
	}
	fmt.Fprintf(l.terminal, "\r%s\x1b[K", text)
}

func (l *line) erase() {
	if l.drawn != "" {
		fmt.Fprint(l.terminal, "\r\x1b[K")
	}
}
