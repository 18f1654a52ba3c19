package apitest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
)

func fileTests() map[string]func(suite) {
	return map[string]func(suite){
		"files of a workspace are written, listed and read": suite.files,
		"a file is replaced as a whole or not at all":       suite.fileLimit,
		"images are kept by their content":                  suite.blobs,
		"a path that leads elsewhere is refused":            suite.filePaths,
	}
}

var myself = api.Caller{UID: uint32(os.Getuid())}

// data is a file with content.
func (s suite) data(content string) *os.File {
	s.Helper()
	f, err := os.Create(filepath.Join(s.TempDir(), "data"))
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { f.Close() })
	if _, err := io.WriteString(f, content); err != nil { // the offset does not matter
		s.Fatal(err)
	}
	return f
}

func (s suite) put(ref, path, content string) {
	s.Helper()
	if err := s.WriteFile(s.Context(), myself, ref, path, s.data(content)); err != nil {
		s.Errorf("writing %s: %v", path, err)
	}
}

func (s suite) wantFile(ref, path, want string) {
	s.Helper()
	f, err := s.ReadFile(s.Context(), myself, ref, path)
	if err != nil {
		s.Errorf("reading %s: %v", path, err)
		return
	}
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || string(got) != want {
		s.Errorf("%s is %.80q, %v", path, got, err)
	}
}

// inFolder starts an instance in a new folder.
func (s suite) inFolder() (ref, folder string) {
	s.Helper()
	folder = s.TempDir()
	return s.working(folder).ID, folder
}

func (s suite) files() {
	ref, folder := s.inFolder()
	s.put(ref, "notes.txt", "one")
	s.put(ref, "a/b/c.txt", "deep")
	s.put(ref, "a/./b/../b/d e\n.txt", "odd")
	s.put(ref, "empty", "")
	if err := os.Chmod(filepath.Join(folder, "notes.txt"), 0o751); err != nil {
		s.Fatal(err)
	}
	s.put(ref, "notes.txt", "two")
	s.wantFile(ref, "notes.txt", "two")
	s.wantFile(ref, "a/b/c.txt", "deep")
	s.wantFile(ref, "empty", "")
	for path, want := range map[string]os.FileMode{"notes.txt": 0o751, "a/b/c.txt": 0o644} {
		if info, err := os.Stat(filepath.Join(folder, path)); err != nil || info.Mode() != want {
			s.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	for path, want := range map[string][]api.FileEntry{
		".":   {{Name: "a", IsDir: true}, {Name: "empty"}, {Name: "notes.txt", Size: 3}},
		"a":   {{Name: "b", IsDir: true}},
		"a/b": {{Name: "c.txt", Size: 4}, {Name: "d e\n.txt", Size: 3}},
	} {
		got, err := s.Tree(s.Context(), myself, ref, path)
		if err != nil || !cmp.Equal(want, got) {
			s.Errorf("%s: %v, %s", path, err, cmp.Diff(want, got))
		}
	}
	if _, err := s.Stop(s.Context(), ref); err != nil {
		s.Fatal(err)
	}
	s.wantFile(ref, "notes.txt", "two")
}

func (s suite) fileLimit() {
	ref, folder := s.inFolder()
	most := strings.Repeat("0123456789abcdef", api.MaxFile/16)
	s.put(ref, "f", most)
	s.wantFile(ref, "f", most)
	s.wantCode("writing more", s.WriteFile(s.Context(), myself, ref, "f", s.data(most+"x")), api.LimitExceeded)
	_, err := s.PutBlob(s.Context(), myself, ref, "", s.data(most+"x"))
	s.wantCode("an image of more", err, api.LimitExceeded)
	s.wantFile(ref, "f", most)
	if err := os.WriteFile(filepath.Join(folder, "large"), []byte(most+"x"), 0o600); err != nil {
		s.Fatal(err)
	}
	_, err = s.ReadFile(s.Context(), myself, ref, "large")
	s.wantCode("reading more", err, api.LimitExceeded)
	pipe, w, err := os.Pipe()
	if err != nil {
		s.Fatal(err)
	}
	defer pipe.Close()
	defer w.Close()
	s.wantCode("writing what a pipe has", s.WriteFile(s.Context(), myself, ref, "f", pipe), api.InvalidArgument)
	if left, _ := filepath.Glob(filepath.Join(folder, ".aegis-*")); len(left) > 0 {
		s.Errorf("left: %v", left)
	}
}

func (s suite) blobs() {
	ref, folder := s.inFolder()
	content := []byte("\x89PNG pixels")
	sum := sha256.Sum256(content)
	for given, ext := range map[string]string{"": "png", "image/png": "png", "image/jpeg": "jpg", "image/gif": "gif", "image/webp": "webp"} {
		got, err := s.PutBlob(s.Context(), myself, ref, given, s.data(string(content)))
		want := api.Blob{Blob: hex.EncodeToString(sum[:]) + "." + ext, MediaType: given, Size: int64(len(content))}
		if given == "" {
			want.MediaType = "image/png"
		}
		if err != nil || got != want {
			s.Errorf("%q: %+v, %v", given, got, err)
		}
		if b, err := os.ReadFile(filepath.Join(folder, ".aegis/blobs", want.Blob)); err != nil || !bytes.Equal(b, content) {
			s.Errorf("%q: %q, %v", given, b, err)
		}
	}
	_, err := s.PutBlob(s.Context(), myself, ref, "image/svg+xml", s.data("<svg/>"))
	s.wantCode("another type", err, api.InvalidArgument)
}

func (s suite) filePaths() {
	ref, folder := s.inFolder()
	outside := filepath.Join(s.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("secret"), 0o600); err != nil {
		s.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(folder, "link")); err != nil {
		s.Fatal(err)
	}
	for path, want := range map[string]api.Code{
		"": api.InvalidArgument, "/etc/passwd": api.InvalidArgument, "../x": api.InvalidArgument, "a/../../x": api.InvalidArgument,
		"link": api.Denied, "missing": api.NotFound,
	} {
		_, err := s.ReadFile(s.Context(), myself, ref, path)
		s.wantCode("reading "+path, err, want)
		if want == api.NotFound {
			continue
		}
		s.wantCode("writing "+path, s.WriteFile(s.Context(), myself, ref, path, s.data("x")), want)
	}
	if b, err := os.ReadFile(outside); string(b) != "secret" {
		s.Errorf("outside: %q, %v", b, err)
	}
}
