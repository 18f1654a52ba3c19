package guestsession_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/xfeldman/aegisvm/daemons/aegisd/guestsession"
	"github.com/xfeldman/aegisvm/guest/proto"
)

func (g *guest) CopyOut(context.Context, *proto.CopyOutRequest) (*proto.Empty, error) {
	return &proto.Empty{}, g.answer()
}

func (g *guest) CopyIn(context.Context, *proto.CopyInRequest) (*proto.Empty, error) {
	return &proto.Empty{}, g.answer()
}

func TestRefusalsOfACopyKeepTheGuestsWordsCleaned(t *testing.T) {
	for code, want := range map[codes.Code]error{
		codes.NotFound: guestsession.ErrNoFile, codes.InvalidArgument: guestsession.ErrPath,
		codes.ResourceExhausted: guestsession.ErrMany, codes.Unimplemented: guestsession.ErrOld,
	} {
		s := open(t, &guest{err: status.Error(code, "/x:\n\x1b[31mno such file"+strings.Repeat("!", 5000))})
		for _, err := range []error{s.CopyOut(t.Context(), "c", "/x", false), s.CopyIn(t.Context(), "c", "/x", false, false)} {
			if !errors.Is(err, want) || len(err.Error()) > 600 || strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("%v: %q", code, err)
			}
			if want != guestsession.ErrOld && !strings.Contains(err.Error(), "no such file") {
				t.Errorf("%v: the words are lost: %q", code, err)
			}
		}
	}
}

func TestACopyThatIsRefusedLeavesTheSession(t *testing.T) {
	g := &guest{err: status.Error(codes.NotFound, "no")}
	s := open(t, g)
	if err := s.CopyOut(t.Context(), "c", "/x", false); err == nil {
		t.Error("it was not refused")
	}
	g.err = nil
	if err := s.CopyOut(t.Context(), "c", "/x", false); err != nil {
		t.Errorf("the next one: %v", err)
	}
}
