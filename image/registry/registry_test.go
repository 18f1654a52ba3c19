package registry_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/image/imagetest"
	"github.com/xfeldman/aegisvm/image/registry"
)

func parse(t *testing.T, s string) registry.Name {
	t.Helper()
	n, err := registry.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestNamesHaveTheDefaultsOfDocker(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("0", 64)
	for s, want := range map[string][3]string{
		"debian":                      {"docker.io/library/debian:latest", "docker.io", "latest"},
		"debian:12":                   {"docker.io/library/debian:12", "docker.io", "12"},
		"docker.io/debian:12":         {"docker.io/library/debian:12", "docker.io", "12"},
		"index.docker.io/library/x":   {"docker.io/library/x:latest", "docker.io", "latest"},
		"team/tool":                   {"docker.io/team/tool:latest", "docker.io", "latest"},
		"ghcr.io/team/a.b_c/tool:v1":  {"ghcr.io/team/a.b_c/tool:v1", "ghcr.io", "v1"},
		"localhost:5000/x":            {"localhost:5000/x:latest", "localhost:5000", "latest"},
		"[::1]:5000/x":                {"[::1]:5000/x:latest", "[::1]:5000", "latest"},
		"debian" + digest:             {"docker.io/library/debian" + digest, "docker.io", ""},
		"registry.example/x" + digest: {"registry.example/x" + digest, "registry.example", ""},
	} {
		n := parse(t, s)
		if got := [3]string{n.String(), n.Registry(), n.Tag()}; got != want {
			t.Errorf("%s: %q, want %q", s, got, want)
		}
		if again := parse(t, n.String()); again.String() != n.String() {
			t.Errorf("%s: its whole name means %s", s, again)
		}
	}
}

func TestWhatIsNoNameIsRefused(t *testing.T) {
	for _, s := range []string{
		"", " ", "Debian", "debian:", "debian:a b", "debian@sha256:12", "../debian", "a/../b", "./x", "localhost/../x",
		"http://example/x", "x\x00", "x\n", strings.Repeat("a/", 400) + "a", "sha256:12/", "-x", "x/-", "[::1/x", "example:port/x", "ex ample/x",
		"x@sha512:" + strings.Repeat("0", 128),
	} {
		_, err := registry.Parse(s)
		if api.CodeOf(err) != api.InvalidArgument || strings.ContainsAny(fmt.Sprint(err), "\n\x00") {
			t.Errorf("%.40q: %v", s, err)
		}
	}
}

func config(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "registries.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConfigurationIsStrict(t *testing.T) {
	for _, path := range []string{"", "/no/such/file"} {
		if c, err := registry.ReadConfig(path); err != nil || len(c.Insecure)+len(c.Mirrors) != 0 {
			t.Errorf("without a file: %+v, %v", c, err)
		}
	}
	want := registry.Config{Insecure: []string{"a:5000"}, Mirrors: map[string][]string{"docker.io": {"m.example/hub", "a:5000"}}}
	got, err := registry.ReadConfig(config(t, `{"insecure": ["a:5000"], "mirrors": {"docker.io": ["m.example/hub", "a:5000"]}}`))
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	for name, text := range map[string]string{
		"no JSON":            `{`,
		"nothing":            ``,
		"an odd name":        `{"unsecure": []}`,
		"more than one":      `{} {}`,
		"a URL":              `{"insecure": ["http://a"]}`,
		"a path":             `{"insecure": ["a/b"]}`,
		"an empty host":      `{"insecure": [""]}`,
		"a mirror of a path": `{"mirrors": {"a/b": ["c"]}}`,
		"a mirror with none": `{"mirrors": {"a": ["https://c"]}}`,
		"endless":            `{"insecure": ["` + strings.Repeat("a", 2<<20) + `"]}`,
	} {
		path := config(t, text)
		_, err := registry.ReadConfig(path)
		if api.CodeOf(err) != api.InvalidArgument || !strings.Contains(fmt.Sprint(err), path) || len(fmt.Sprint(err)) > 1000 {
			t.Errorf("%s: %.300v", name, err)
		}
	}
}

// resolve asks the places of an image in turn, as a pull does.
func resolve(t *testing.T, path, image string) (hosts []string, err error) {
	t.Helper()
	c := registry.New(registry.Options{Config: path})
	t.Cleanup(c.Close)
	places, err := c.Repositories(parse(t, image))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range places {
		hosts = append(hosts, p.Host())
		if _, _, err = p.Resolve(t.Context()); err == nil {
			return hosts, nil
		}
	}
	return hosts, err
}

func TestMirrorsAreAskedFirst(t *testing.T) {
	mirror, home := imagetest.NewRegistry(t), imagetest.NewRegistry(t)
	img := imagetest.Of([]imagetest.Entry{imagetest.File("a", "")})
	mirror.Push(t, "hub/x/both", "1", img)
	home.Push(t, "x/both", "1", img)
	home.Push(t, "x/home", "1", img)
	path := config(t, fmt.Sprintf(`{"insecure": [%q, %q], "mirrors": {%q: ["mirror.invalid", %q]}}`, mirror.Host, home.Host, home.Host, mirror.Host+"/hub"))
	for image, want := range map[string][]string{
		"x/both:1": {"mirror.invalid", mirror.Host},
		"x/home:1": {"mirror.invalid", mirror.Host, home.Host},
	} {
		hosts, err := resolve(t, path, home.Host+"/"+image)
		if diff := cmp.Diff(want, hosts); diff != "" || err != nil {
			t.Errorf("%s: %v %s", image, err, diff)
		}
	}
	if _, err := resolve(t, path, home.Host+"/x/nowhere:1"); api.CodeOf(err) != api.NotFound {
		t.Errorf("nowhere: %v", err)
	}
}

// guarded lets only those in whose credentials are user and password, with
// Basic or, for a token, with Bearer.
func guarded(r *imagetest.Registry, scheme string) {
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("user:password"))
	r.Intercept(func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		auth := req.Header.Get("Authorization")
		switch {
		case req.URL.Path == "/token" && auth == basic:
			io.WriteString(w, `{"token": "the-token"}`)
		case req.URL.Path == "/token":
			w.WriteHeader(http.StatusUnauthorized)
		case scheme == "Basic" && auth == basic, scheme == "Bearer" && auth == "Bearer the-token":
			next.ServeHTTP(w, req)
		default:
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`%s realm="http://%s/token",service="x"`, scheme, r.Host))
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
}

func TestCredentialsAreThoseOfDocker(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("DOCKER_CONFIG", dir)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	helper := "#!/bin/sh\ncat > " + dir + "/asked\necho '{\"Username\":\"user\",\"Secret\":\"password\"}'\n"
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-test"), []byte(helper), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		scheme, config string
		code           api.Code
	}{
		"none":            {"Basic", `{}`, api.Unavailable},
		"of another host": {"Basic", `{"auths": {"other.example": {"auth": "dXNlcjpwYXNzd29yZA=="}}}`, api.Unavailable},
		"wrong ones":      {"Basic", `{"auths": {"HOST": {"auth": "dXNlcjp3cm9uZw=="}}}`, api.Unavailable},
		"basic":           {"Basic", `{"auths": {"HOST": {"auth": "dXNlcjpwYXNzd29yZA=="}}}`, ""},
		"a token":         {"Bearer", `{"auths": {"HOST": {"auth": "dXNlcjpwYXNzd29yZA=="}}}`, ""},
		"no token":        {"Bearer", `{}`, api.Unavailable},
		"of a helper":     {"Bearer", `{"credHelpers": {"HOST": "test"}}`, ""},
		"no such helper":  {"Basic", `{"credHelpers": {"HOST": "nosuch"}}`, api.Unavailable},
		"a broken file":   {"Basic", `{`, api.Unavailable},
		"of every one":    {"Basic", `{"credsStore": "test"}`, ""},
		"a wrong realm":   {"Elsewhere", `{"auths": {"HOST": {"auth": "dXNlcjpwYXNzd29yZA=="}}}`, api.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			r := imagetest.NewRegistry(t)
			r.Push(t, "x", "1", imagetest.Of([]imagetest.Entry{imagetest.File("a", "")}))
			guarded(r, c.scheme)
			text := strings.ReplaceAll(c.config, "HOST", r.Host)
			if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := resolve(t, r.Config(t), r.Host+"/x:1")
			if api.CodeOf(err) != c.code || strings.Contains(fmt.Sprint(err), "password") || strings.Contains(fmt.Sprint(err), "\n") {
				t.Errorf("%v, want %q", err, c.code)
			}
		})
	}
}

// A token server elsewhere must not be told what is the registry's.
func TestARealmOnThePrivateNetworkIsRefused(t *testing.T) {
	r := imagetest.NewRegistry(t)
	r.Intercept(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://169.254.169.254/latest/meta-data"`)
		w.WriteHeader(http.StatusUnauthorized)
	})
	if _, err := resolve(t, r.Config(t), r.Host+"/x:1"); api.CodeOf(err) != api.Unavailable || !strings.Contains(fmt.Sprint(err), "private or link-local") {
		t.Errorf("%v", err)
	}
}

func TestAHelperThatHangsIsGivenUp(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("DOCKER_CONFIG", dir)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	pipe := filepath.Join(dir, "asked")
	helper := "#!/bin/sh\necho asked > " + pipe + "\nread never < " + pipe + ".answer\n"
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-test"), []byte(helper), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{pipe, pipe + ".answer"} {
		if err := mkfifo(name); err != nil {
			t.Skip(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(`{"credsStore": "test"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	r := imagetest.NewRegistry(t)
	c := registry.New(registry.Options{Config: r.Config(t)})
	defer c.Close()
	places, err := c.Repositories(parse(t, r.Host+"/x:1"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, _, err := places[0].Resolve(ctx)
		failed <- err
	}()
	if _, err := os.ReadFile(pipe); err != nil { // until the helper runs
		t.Fatal(err)
	}
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	answer, err := os.OpenFile(pipe+".answer", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	answer.Close() // the helper ends
}
