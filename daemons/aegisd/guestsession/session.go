// Package guestsession speaks the host's half of the host-guest contract to
// one machine. It is the only part of aegisd that reads what a guest says:
// every call has a deadline, every reply is bounded and checked here, and a
// guest that does not answer loses its session. It knows nothing of instances
// and starts no machine.
package guestsession

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/xfeldman/aegisvm/guest/proto"
)

// callTimeout is how long a guest may take to answer any call but Wait.
const callTimeout = 15 * time.Second

// maxMessage bounds, in characters, a text of the guest that people will see.
const maxMessage = 512

// ErrNoProcess is wrapped by calls that name a process the guest has not.
var ErrNoProcess = errors.New("no such process in the guest")

// ErrNoTerminal is wrapped by a resize of what has none, ErrMany by a start
// where the guest runs too much already, ErrOld where it is of an older release
// and cannot do it.
var (
	ErrNoTerminal = errors.New("it has no terminal")
	ErrMany       = errors.New("the guest runs too many processes already")
	ErrOld        = errors.New("the guest is of an older release: stop and start the instance")
)

var sentinels = map[codes.Code]error{
	codes.NotFound: ErrNoProcess, codes.ResourceExhausted: ErrMany, codes.Unimplemented: ErrOld,
}

// Dial connects to a port of the machine.
type Dial func(ctx context.Context, port uint32) (*os.File, error)

// Session is a control connection whose guest speaks our contract. Its calls
// may be made from several goroutines.
type Session struct {
	conn   net.Conn
	client *ttrpc.Client
	guest  proto.GuestService
	// BootID is the guest's, random per boot.
	BootID string
	// version is what the guest speaks.
	version uint32
}

// Open connects and agrees on the contract's version.
func Open(ctx context.Context, dial Dial) (*Session, error) {
	f, err := dial(ctx, proto.PortControl)
	if err != nil {
		return nil, fmt.Errorf("connecting to the guest: %w", err)
	}
	raw, err := net.FileConn(f)
	f.Close()
	if err != nil {
		return nil, fmt.Errorf("connecting to the guest: %w", err)
	}
	conn := newLingering(raw)
	client := ttrpc.NewClient(conn)
	s := &Session{conn: conn, client: client, guest: proto.NewGuestClient(client)}
	if err := s.hello(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Session) hello(ctx context.Context) error {
	return s.call(ctx, "greeting the guest", callTimeout, func(ctx context.Context) error {
		r, err := s.guest.Hello(ctx, &proto.HelloRequest{Version: proto.Version})
		if err != nil {
			return err
		}
		if proto.Major(r.GetVersion()) != proto.Major(proto.Version) {
			return fmt.Errorf("it speaks contract version %d, this aegisd %d: install a guest kernel and initramfs of the same release", r.GetVersion(), proto.Version)
		}
		s.BootID, s.version = clean(r.GetBootId()), r.GetVersion()
		return nil
	})
}

// Close ends the session; calls under way fail.
func (s *Session) Close() {
	s.conn.Close()
	s.client.Close()
}

// call makes one call with a deadline. A guest that lets it pass is cut off:
// nothing it says later can be told from an answer to something else, and a
// write that it does not read would block for ever.
func (s *Session) call(ctx context.Context, what string, limit time.Duration, fn func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	stop := context.AfterFunc(ctx, s.Close)
	err := fn(ctx)
	stop()
	return explain(what, ctx, err)
}

// explain wraps an error of a call and cleans the guest's own words in it.
func explain(what string, ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%s: the guest did not answer in time", what)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	if st, ok := status.FromError(err); ok {
		if known := sentinels[st.Code()]; known != nil {
			return fmt.Errorf("%s: %w", what, known)
		}
		return fmt.Errorf("%s: %s", what, clean(st.Message()))
	}
	return fmt.Errorf("%s: %w", what, err)
}

// clean makes one bounded, printable line of a guest's text.
func clean(text string) string {
	n := 0
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if n++; n > maxMessage {
			return -1
		}
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text))
}
