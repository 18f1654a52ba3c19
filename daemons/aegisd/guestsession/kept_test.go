package guestsession_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/xfeldman/aegisvm/daemons/aegisd/guestsession"
	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/guest/proto/kept"
)

func TestOutputIsReadFromWhereItWasAskedForAndAcknowledged(t *testing.T) {
	asked, acknowledged := make(chan proto.Prelude, 1), make(chan uint64, 1)
	dial := pair(t, func(conn net.Conn) {
		go func() {
			p, _ := proto.ReadPrelude(conn)
			asked <- p
			conn.Write(binary.BigEndian.AppendUint64(nil, 12))
			io.WriteString(conn, "hello")
			conn.(*net.UnixConn).CloseWrite()
			var b [8]byte
			io.ReadFull(conn, b[:])
			acknowledged <- binary.BigEndian.Uint64(b[:])
		}()
	})
	out, err := guestsession.OpenOutput(t.Context(), dial, "main", proto.Stderr, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if p := <-asked; p != (proto.Prelude{Kind: proto.Stderr, Process: "main", Kept: true, From: 10}) {
		t.Errorf("the guest was asked for %+v", p)
	}
	if got, err := io.ReadAll(out); string(got) != "hello" || err != nil || out.Start != 12 {
		t.Errorf("read %q from %d, %v", got, out.Start, err)
	}
	if err := out.Stored(17); err != nil {
		t.Fatal(err)
	}
	if got := <-acknowledged; got != 17 {
		t.Errorf("acknowledged %d", got)
	}
}

func TestAGuestWithoutTheOutputIsUnderstood(t *testing.T) {
	for name, c := range map[string]struct {
		answer []byte
		want   error
	}{
		"one that refuses":   {binary.BigEndian.AppendUint64(nil, 1<<64-1), guestsession.ErrNoStream},
		"one that goes back": {binary.BigEndian.AppendUint64(nil, 9), kept.ErrStart},
		"one that hangs up":  {nil, io.ErrUnexpectedEOF},
	} {
		dial := pair(t, func(conn net.Conn) {
			conn.Write(c.answer)
			conn.(*net.UnixConn).CloseWrite()
		})
		if _, err := guestsession.OpenOutput(t.Context(), dial, "main", proto.Stdout, 10); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAGuestThatSaysNothingIsLeftWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	dialled := make(chan struct{})
	dial := pair(t, func(net.Conn) { close(dialled) })
	done := make(chan error, 1)
	go func() {
		_, err := guestsession.OpenOutput(ctx, dial, "main", proto.Stdout, 0)
		done <- err
	}()
	<-dialled
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("while it opens: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	out, err := guestsession.OpenOutput(ctx, pair(t, func(c net.Conn) { c.Write(make([]byte, 8)) }), "main", proto.Stdout, 0)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := out.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("while it reads: %v", err)
	}
	out.Close()
}
