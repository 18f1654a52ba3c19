package journal

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/google/go-cmp/cmp"
)

type sent struct {
	Message  string
	Priority journal.Priority
	Fields   map[string]string
}

func TestEachAttributeBecomesAField(t *testing.T) {
	var got sent
	level := &slog.LevelVar{}
	log := slog.New(newHandler(slog.DiscardHandler, level, func(m string, p journal.Priority, f map[string]string) error {
		got = sent{m, p, f}
		return nil
	}))
	for _, c := range []struct {
		say  func()
		want sent
	}{
		{func() { log.Info("ready") }, sent{"ready", journal.PriInfo, map[string]string{}}},
		{
			func() { log.With("component", "instance").Warn("phase", "instance", "inst-1", "reason", "a b") },
			sent{`phase component=instance instance=inst-1 reason="a b"`, journal.PriWarning, map[string]string{"AEGIS_COMPONENT": "instance", "AEGIS_INSTANCE": "inst-1", "AEGIS_REASON": "a b"}},
		},
		{
			func() {
				log.Error("failed", "error", errors.New("no"), "took", slog.GroupValue(slog.Duration("machine-up", time.Second)))
			},
			sent{"failed error=no took.machine-up=1s", journal.PriErr, map[string]string{"AEGIS_ERROR": "no", "AEGIS_TOOK_MACHINE_UP": "1s"}},
		},
		{
			func() { log.WithGroup("a").With("b", 1).Info("in a group", "c", 2) },
			sent{"in a group a.b=1 a.c=2", journal.PriInfo, map[string]string{"AEGIS_A_B": "1", "AEGIS_A_C": "2"}},
		},
	} {
		c.say()
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Error(diff)
		}
	}
	got = sent{}
	log.Debug("quiet")
	if level.Set(slog.LevelDebug); got.Message != "" {
		t.Errorf("sent %+v", got)
	}
	if log.Debug("loud"); got.Message != "loud" || got.Priority != journal.PriDebug {
		t.Errorf("sent %+v", got)
	}
}

func TestAJournalThatIsNotThereLosesNoLine(t *testing.T) {
	var b bytes.Buffer
	log := slog.New(newHandler(slog.NewTextHandler(&b, nil), slog.LevelInfo, func(string, journal.Priority, map[string]string) error {
		return errors.New("gone")
	}))
	log.With("a", 1).Info("told", "b", 2)
	if got := b.String(); !strings.Contains(got, "msg=told a=1 b=2") {
		t.Errorf("text: %q", got)
	}
}

func TestElsewhereLinesAreText(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	slog.New(NewHandler(w, slog.LevelInfo)).Info("told")
	w.Close()
	buf := make([]byte, 1000)
	if n, err := r.Read(buf); err != nil || !strings.Contains(string(buf[:n]), "msg=told") {
		t.Errorf("text: %q, %v", buf[:n], err)
	}
}
