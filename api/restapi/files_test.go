package restapi_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xfeldman/aegisvm/api"
)

// files is an Aegis with one file, which answers with what it was asked.
type files struct {
	api.Aegis
	name    string
	refusal error
	written chan string
}

func (f *files) Tree(_ context.Context, _ api.Caller, _, path string) ([]api.FileEntry, error) {
	if path == "empty" {
		return nil, f.refusal
	}
	return []api.FileEntry{{Name: path, IsDir: true}}, f.refusal
}

func (f *files) ReadFile(context.Context, api.Caller, string, string) (*os.File, error) {
	if f.refusal != nil {
		return nil, f.refusal
	}
	return os.Open(f.name)
}

func (f *files) WriteFile(_ context.Context, _ api.Caller, _, path string, data *os.File) error {
	b, _ := io.ReadAll(data)
	f.written <- path + " " + string(b)
	return f.refusal
}

func (f *files) PutBlob(_ context.Context, _ api.Caller, _, mediaType string, data *os.File) (api.Blob, error) {
	st, err := data.Stat()
	if err != nil {
		return api.Blob{}, err
	}
	return api.Blob{Blob: "x.png", MediaType: mediaType, Size: st.Size()}, f.refusal
}

func newFiles(t *testing.T) (*files, string) {
	t.Helper()
	f := &files{name: filepath.Join(t.TempDir(), "file"), written: make(chan string, 10)}
	if err := os.WriteFile(f.name, []byte("<html>"), 0o600); err != nil {
		t.Fatal(err)
	}
	return f, serve(t, f)
}

func TestFilesOnTheWire(t *testing.T) {
	f, path := newFiles(t)
	for _, c := range []struct {
		method, url, body string
		status            int
		want, contentType string
	}{
		{"GET", "/workspace/tree", "", 200, `[{"name":".","is_dir":true,"size":0}]`, "application/json"},
		{"GET", "/workspace/tree?path=a%2Fb", "", 200, `[{"name":"a/b","is_dir":true,"size":0}]`, "application/json"},
		{"GET", "/workspace/tree?path=empty", "", 200, `[]`, "application/json"},
		{"GET", "/workspace?path=a.json", "", 200, `<html>`, "application/json"},
		{"GET", "/workspace?path=a", "", 200, `<html>`, "text/html; charset=utf-8"},
		{"POST", "/workspace?path=a%20b", "bytes", 200, `{"status":"ok"}`, "application/json"},
		{"POST", "/blob", "bytes", 200, `{"blob":"x.png","media_type":"","size":5}`, "application/json"},
		{"PUT", "/workspace?path=a", "", 405, "Method Not Allowed", "text/plain; charset=utf-8"},
	} {
		status, got, header := raw(t, path, c.method, "/v1/instances/web"+c.url, c.body)
		if status != c.status || got != c.want || header.Get("Content-Type") != c.contentType {
			t.Errorf("%s %s: %d %s %s", c.method, c.url, status, got, header.Get("Content-Type"))
		}
	}
	if got := <-f.written; got != "a b bytes" {
		t.Errorf("written: %q", got)
	}
}

func TestFilesAreRefusedByTheCodesOfOldClients(t *testing.T) {
	f, path := newFiles(t)
	for code, want := range map[api.Code]int{
		api.InvalidArgument: 400, api.Denied: 403, api.NotFound: 404, api.LimitExceeded: 413, api.Internal: 500, api.Unavailable: 503,
	} {
		f.refusal = api.Errorf(code, "refused")
		for _, ask := range []string{"GET /workspace/tree", "GET /workspace?path=x", "POST /workspace?path=x", "POST /blob"} {
			method, url, _ := strings.Cut(ask, " ")
			if status, got, _ := raw(t, path, method, "/v1/instances/web"+url, ""); status != want || !strings.Contains(got, `"code":"`+string(code)+`"`) {
				t.Errorf("%s, %s: %d %s", code, ask, status, got)
			}
		}
	}
}

func TestABodyThatIsTooLargeOrBreaksOffIsNotWritten(t *testing.T) {
	f, path := newFiles(t)
	large := strings.Repeat("x", api.MaxFile+1)
	for what, request := range map[string]string{
		"413 with its length": fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(large), large),
		"413 in chunks":       fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(large), large),
		"400 that breaks off": "Content-Length: 10\r\n\r\nhalf",
		"400 in half a chunk": "Transfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n9\r\nhalf",
		"400 of no type":      "Content-Type: ;\r\nContent-Length: 0\r\n\r\n",
	} {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		end := "/workspace?path=x"
		if strings.Contains(what, "type") {
			end = "/blob"
		}
		go func() { // ends with the request, or with the connection that refuses its rest
			io.WriteString(c, "POST /v1/instances/web"+end+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"+request)
			c.(*net.UnixConn).CloseWrite()
		}()
		got, _ := io.ReadAll(c)
		c.Close()
		if !strings.HasPrefix(string(got), "HTTP/1.1 "+what[:3]) {
			t.Errorf("%s: %.200q", what, got)
		}
	}
	if len(f.written) > 0 {
		t.Errorf("written: %.50q", <-f.written)
	}
}
