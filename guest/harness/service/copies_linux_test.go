package service

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/xfeldman/aegisvm/guest/proto"
)

func TestAFileIsCopiedOutAndIn(t *testing.T) {
	h := newGuest(t).attach()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("text"), 0o640); err != nil {
		t.Fatal(err)
	}
	out := &proto.CopyOutRequest{Id: "out", Path: filepath.Join(dir, "f")}
	in := &proto.CopyInRequest{Id: "in", Path: filepath.Join(dir, "g")}
	_, err := h.control.CopyOut(t.Context(), out)
	wants(t, "out before an identity", err, codes.FailedPrecondition)
	_, err = h.control.CopyIn(t.Context(), in)
	wants(t, "in before an identity", err, codes.FailedPrecondition)
	h.identify()
	_, err = h.control.CopyOut(t.Context(), out)
	wants(t, "out", err, codes.OK)
	_, err = h.control.CopyIn(t.Context(), in)
	wants(t, "in", err, codes.OK)
	_, err = h.control.CopyOut(t.Context(), &proto.CopyOutRequest{Id: "no", Path: filepath.Join(dir, "no")})
	wants(t, "nothing there", err, codes.NotFound)
	to := h.stream(proto.Archive, "in")
	if _, err := io.Copy(to, h.stream(proto.Archive, "out")); err != nil {
		t.Fatal(err)
	}
	if err := to.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"in", "out"} {
		if end, err := proto.ReadEnd(h.stream(proto.Status, id)); err != nil || end.Code != 0 {
			t.Errorf("%s went as %+v, %v", id, end, err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "g")); err != nil || string(b) != "text" {
		t.Errorf("copied %q, %v", b, err)
	}
}
