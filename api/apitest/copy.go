package apitest

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/guest/proto"
)

// archived makes an archive: a name with a slash at its end is a folder, any
// other a file with its name as content.
func (s suite) archived(names ...string) []byte {
	s.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range names {
		h := &tar.Header{Name: name, Mode: 0o640, Size: int64(len(name)), Typeflag: tar.TypeReg}
		if strings.HasSuffix(name, "/") {
			h.Mode, h.Size, h.Typeflag = 0o750, 0, tar.TypeDir
		}
		err := w.WriteHeader(h)
		if err == nil && h.Size > 0 {
			_, err = io.WriteString(w, name)
		}
		if err != nil {
			s.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		s.Fatal(err)
	}
	return b.Bytes()
}

// copyTo copies an archive and returns how that went.
func (s suite) copyTo(ref string, spec api.CopyToSpec, archive []byte) proto.End {
	s.Helper()
	streams, err := s.CopyTo(s.Context(), ref, spec)
	if err != nil {
		s.Fatalf("copying to %s: %v", spec.Path, err)
	}
	defer streams.Close()
	if streams.Stdin == nil || streams.Stdout != nil || streams.Status == nil || streams.Session == nil {
		s.Fatalf("streams: %+v", streams)
	}
	if _, err := streams.Stdin.Write(archive); err != nil {
		s.Fatal(err)
	}
	if err := CloseWrite(streams.Stdin); err != nil {
		s.Fatal(err)
	}
	return s.verdict(streams)
}

func (s suite) verdict(streams *api.Streams) proto.End {
	s.Helper()
	streams.Status.SetReadDeadline(time.Now().Add(10 * time.Second))
	end, err := proto.ReadEnd(streams.Status)
	if err != nil {
		s.Fatalf("how the copy went: %v", err)
	}
	return end
}

// copyFrom returns the entries of what is copied, each with its content.
func (s suite) copyFrom(ref string, spec api.CopyFromSpec) (entries []string) {
	s.Helper()
	streams, err := s.CopyFrom(s.Context(), ref, spec)
	if err != nil {
		s.Fatalf("copying from %s: %v", spec.Path, err)
	}
	defer streams.Close()
	if streams.Stdin != nil || streams.Stdout == nil || streams.Status == nil || streams.Session == nil {
		s.Fatalf("streams: %+v", streams)
	}
	text := s.read(streams.Stdout)
	if end := s.verdict(streams); end.Code != 0 || end.Message != "" || end.Output == nil || end.Output.Stdout != int64(len(text)) {
		s.Errorf("copying %s: %+v, and %d bytes came", spec.Path, end, len(text))
	}
	for r := tar.NewReader(strings.NewReader(text)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return entries
		}
		content, rerr := io.ReadAll(r)
		if err = errors.Join(err, rerr); err != nil {
			s.Fatal(err)
		}
		entries = append(entries, fmt.Sprintf("%#o %s %s", h.Mode, h.Name, content))
	}
}

func (s suite) copies() {
	ref := s.host(api.InstanceSpec{})
	for _, end := range []proto.End{
		s.copyTo(ref, api.CopyToSpec{Path: "/tmp"}, s.archived("d/", "d/a", "d/e/")),
		s.copyTo(ref, api.CopyToSpec{Path: "/tmp/d/b"}, s.archived("renamed")),
		s.copyTo(ref, api.CopyToSpec{Path: "/tmp/d", Extract: true}, s.archived("c", "e/f")),
	} {
		if end.Code != 0 || end.Message != "" {
			s.Errorf("copying went as %+v", end)
		}
	}
	want := []string{"0750 d/ ", "0640 d/a d/a", "0640 d/b renamed", "0640 d/c c", "0750 d/e/ ", "0640 d/e/f e/f"}
	if diff := cmp.Diff(want, s.copyFrom(ref, api.CopyFromSpec{Path: "tmp/d"})); diff != "" {
		s.Error(diff)
	}
	if diff := cmp.Diff([]string{"0640 a d/a"}, s.copyFrom(ref, api.CopyFromSpec{Path: "/tmp/d/a", FollowLink: true})); diff != "" {
		s.Error(diff)
	}
}

func (s suite) copyRefusals() {
	ctx := s.Context()
	ref := s.host(api.InstanceSpec{})
	for path, code := range map[string]api.Code{
		"": api.InvalidArgument, "a\x00b": api.InvalidArgument, strings.Repeat("x", 5000): api.InvalidArgument,
		"/no/such": api.NotFound, "/etc/hostname/": api.InvalidArgument, "/etc/hostname/x": api.InvalidArgument,
	} {
		_, err := s.CopyFrom(ctx, ref, api.CopyFromSpec{Path: path})
		s.wantCode(fmt.Sprintf("copying from %.20q", path), err, code)
		_, err = s.CopyTo(ctx, ref, api.CopyToSpec{Path: path})
		s.wantCode(fmt.Sprintf("copying to %.20q", path), err, code)
	}
	_, err := s.CopyTo(ctx, ref, api.CopyToSpec{Path: "/etc/hostname", Extract: true})
	s.wantCode("unpacking in a file", err, api.InvalidArgument)
	for name, archive := range map[string][]byte{
		"not a tar archive": bytes.Repeat([]byte("garbage "), 100), "archive is empty": nil,
		`".." in its name`: s.archived("d/", "d/../x"), "it is not in": s.archived("d/", "e"),
		"breaks off": s.archived("f")[:600],
	} {
		if end := s.copyTo(ref, api.CopyToSpec{Path: "/tmp"}, archive); end.Code != 1 || !strings.Contains(end.Message, name) {
			s.Errorf("want %q: %+v", name, end)
		}
	}
	_, err = s.CopyFrom(ctx, "nosuch", api.CopyFromSpec{Path: "/"})
	s.wantCode("copying from no instance", err, api.NotFound)
	if _, err := s.Stop(ctx, ref); err != nil {
		s.Fatal(err)
	}
	_, err = s.CopyFrom(ctx, ref, api.CopyFromSpec{Path: "/"})
	s.wantCode("copying from a stopped instance", err, api.BadState)
	_, err = s.CopyTo(ctx, ref, api.CopyToSpec{Path: "/"})
	s.wantCode("copying to a stopped instance", err, api.BadState)
}

// copyLeft leaves copies half way.
func (s suite) copyLeft() {
	ref := s.host(api.InstanceSpec{})
	big := s.archived("d/", "d/a")
	for range 100 { // more than a guest makes at once
		to, err := s.CopyTo(s.Context(), ref, api.CopyToSpec{Path: "/tmp"})
		if err != nil {
			s.Fatal(err)
		}
		if _, err := to.Stdin.Write(big[:1000]); err != nil {
			s.Fatal(err)
		}
		if err := CloseWrite(to.Stdin); err != nil {
			s.Fatal(err)
		}
		if end := s.verdict(to); end.Code != 1 || !strings.Contains(end.Message, "breaks off") {
			s.Errorf("left: %+v", end)
		}
		to.Close()
	}
}

func (s suite) copyPaused() {
	ref := s.host(api.InstanceSpec{})
	if _, err := s.Pause(s.Context(), ref); err != nil {
		s.Fatal(err)
	}
	if got := s.copyFrom(ref, api.CopyFromSpec{Path: "/etc/hostname"}); len(got) != 1 {
		s.Errorf("copied %q", got)
	}
	if in, err := s.Get(s.Context(), ref); err != nil || in.Phase != api.PhaseRunning {
		s.Errorf("afterwards the instance is %+v, %v", in, err)
	}
}
