package logs_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/logs"
)

// The output waits for a follower that reads, however slow, rather than run
// away from it.
func TestAFollowerThatReadsLosesNothingHoweverMuchComes(t *testing.T) {
	h := small(t)
	h.config.FileSize = 20 << 10
	s := logs.New(h.config)
	l := s.Log("inst-1")
	stream, err := l.Read(t.Context(), api.LogQuery{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	want := []byte(strings.Repeat("a line of some output\n", 30_000))
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.Collect(stdout, &source{Reader: bytes.NewReader(want)}, 0)
	}()
	var got []byte
	for len(got) < len(want) {
		entries, err := stream.Next()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, bytesOf(entries)...)
	}
	if <-done; !bytes.Equal(got, want) {
		t.Errorf("%d bytes of %d came, or others", len(got), len(want))
	}
}

func TestAFollowerThatStandsStillIsOvertakenOnceAndTold(t *testing.T) {
	h := small(t)
	h.config.Grace = 50 * time.Millisecond
	s := logs.New(h.config)
	l := s.Log("inst-1")
	stream, err := l.Read(t.Context(), api.LogQuery{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	for range 5 { // one of them waits
		if _, err := l.Collect(stdout, &source{Reader: strings.NewReader(strings.Repeat("line\n", 100))}, 0); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	entries, err := stream.Next()
	if err != nil || len(entries) != 1 || !strings.Contains(entries[0].Line, "were deleted before they were read") {
		t.Errorf("it is told %q, %v", texts(entries), err)
	}
}

func TestAFollowerThatLeavesIsNotWaitedFor(t *testing.T) {
	h := small(t)
	l := h.open()
	stream, err := l.Read(t.Context(), api.LogQuery{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.Collect(stdout, &source{Reader: strings.NewReader(strings.Repeat("line\n", 1000))}, 0)
	}()
	stream.Close()
	<-done
}
