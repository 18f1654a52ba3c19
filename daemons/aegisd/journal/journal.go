// Package journal makes aegisd's own log lines entries of systemd's journal,
// with each attribute as a field of its own: journalctl AEGIS_INSTANCE=inst-…
// gives what aegisd says of one instance. It knows no attribute by name and
// owns no file.
package journal

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"os"
	"strings"

	"github.com/coreos/go-systemd/v22/journal"
)

// send is journal.Send, but in tests.
type send func(message string, p journal.Priority, fields map[string]string) error

// NewHandler makes a handler that writes to the journal where stderr is
// connected to it, and else text to stderr.
func NewHandler(stderr *os.File, level slog.Leveler) slog.Handler {
	text := slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})
	if there, err := journal.StderrIsJournalStream(); err != nil || !there {
		return text
	}
	return newHandler(text, level, journal.Send)
}

// handler writes records to the journal, and as text where that fails.
type handler struct {
	text   slog.Handler
	level  slog.Leveler
	send   send
	prefix string // of the group that is open
	fields map[string]string
	words  string // the attributes of With, as text
}

func newHandler(text slog.Handler, level slog.Leveler, s send) slog.Handler {
	return &handler{text: text, level: level, send: s}
}

// Enabled implements slog.Handler.
func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

// Handle implements slog.Handler.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	fields := maps.Clone(h.fields)
	if fields == nil {
		fields = map[string]string{}
	}
	var attrs []slog.Attr
	r.Attrs(func(a slog.Attr) bool {
		attrs = append(attrs, a)
		return true
	})
	for _, a := range attrs {
		addField(fields, h.prefix, a)
	}
	message := r.Message
	for _, words := range []string{h.words, wordsOf(h.prefix, attrs)} {
		if words != "" {
			message += " " + words
		}
	}
	if h.send(message, priority(r.Level), fields) == nil {
		return nil
	}
	return h.text.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	next.text = h.text.WithAttrs(attrs)
	next.fields = map[string]string{}
	maps.Copy(next.fields, h.fields)
	for _, a := range attrs {
		addField(next.fields, h.prefix, a)
	}
	next.words = strings.TrimSpace(h.words + " " + wordsOf(h.prefix, attrs))
	return &next
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	next := *h
	next.text, next.prefix = h.text.WithGroup(name), h.prefix+name+"."
	return &next
}

// addField adds an attribute, or those of a group, as fields.
func addField(fields map[string]string, prefix string, a slog.Attr) {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		for _, inner := range v.Group() {
			addField(fields, prefix+a.Key+".", inner)
		}
		return
	}
	if a.Key != "" {
		fields[fieldName(prefix+a.Key)] = v.String()
	}
}

// fieldName is a name that the journal takes.
func fieldName(key string) string {
	return "AEGIS_" + strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(key))
}

// wordsOf are attributes as slog's text has them.
func wordsOf(prefix string, attrs []slog.Attr) string {
	var b bytes.Buffer
	var text slog.Handler = slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: withoutBuiltins})
	if prefix != "" {
		text = text.WithGroup(strings.TrimSuffix(prefix, "."))
	}
	text.WithAttrs(attrs).Handle(context.Background(), slog.Record{})
	return strings.TrimSpace(b.String())
}

func withoutBuiltins(groups []string, a slog.Attr) slog.Attr {
	builtin := a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey
	if len(groups) == 0 && builtin {
		return slog.Attr{}
	}
	return a
}

// priority is the syslog level of a slog level.
func priority(l slog.Level) journal.Priority {
	switch {
	case l < slog.LevelInfo:
		return journal.PriDebug
	case l < slog.LevelWarn:
		return journal.PriInfo
	case l < slog.LevelError:
		return journal.PriWarning
	}
	return journal.PriErr
}
