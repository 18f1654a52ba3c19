package progress

import (
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
)

// fakeAegis has nothing but events, which it hands over one by one.
type fakeAegis struct {
	api.Aegis
	events chan api.Event
}

func (f *fakeAegis) Events(context.Context) (<-chan api.Event, error) {
	if f.events == nil {
		return nil, api.Errorf(api.Unavailable, "no events")
	}
	return f.events, nil
}

func progress(instance, text string) api.Event {
	return api.Event{Type: api.EventProgress, Instance: instance, Message: text}
}

// terminal is a file in place of one.
func terminal(t *testing.T) (f *os.File, content func() string) {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "terminal")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, func() string {
		b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
}

func TestLineIsRewrittenAndErased(t *testing.T) {
	f := &fakeAegis{events: make(chan api.Event)}
	term, content := terminal(t)
	due := make(chan time.Time)
	stop := show(t.Context(), f, "inst-1", &line{terminal: term}, due)
	f.events <- progress("inst-1", "image: building 10%")
	f.events <- progress("inst-2", "of another one")
	due <- time.Time{}
	f.events <- progress("inst-1", "booting")
	close(f.events)
	stop()
	want := "\raegis: image: building 10%\x1b[K\raegis: booting\x1b[K"
	got := content()
	if !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "\r\x1b[K") || strings.Contains(got, "another") {
		t.Errorf("got %q, want %q, erased", got, want)
	}
}

func TestNothingIsShownOfAShortWait(t *testing.T) {
	f := &fakeAegis{events: make(chan api.Event)}
	term, content := terminal(t)
	stop := show(t.Context(), f, "inst-1", &line{terminal: term}, nil)
	f.events <- progress("inst-1", "booting")
	stop()
	if got := content(); got != "" {
		t.Errorf("got %q", got)
	}
}

func TestLineIsShownWithoutEvents(t *testing.T) {
	term, content := terminal(t)
	due := make(chan time.Time)
	stop := show(t.Context(), &fakeAegis{}, "inst-1", &line{terminal: term}, due)
	due <- time.Time{}
	stop()
	if got := content(); got != "\raegis: starting the machine\x1b[K\r\x1b[K" {
		t.Errorf("got %q", got)
	}
}

func TestAFileIsNoTerminal(t *testing.T) {
	if f, _ := terminal(t); Possible(f) {
		t.Error("progress would be written to a file")
	}
}
