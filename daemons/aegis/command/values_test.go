package command

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMemoryIsMiBOrASize(t *testing.T) {
	for _, c := range []struct {
		in   string
		want memory
		bad  bool
	}{
		{in: "512", want: 512},
		{in: "512M", want: 512},
		{in: "512m", want: 512},
		{in: "512MiB", want: 512},
		{in: "512MB", want: 512},
		{in: "1T", want: 1048576},
		{in: "2G", want: 2048},
		{in: "2GiB", want: 2048},
		{in: "0", want: 0},
		{in: "-5", want: -5},
		{in: "", bad: true},
		{in: "G", bad: true},
		{in: "1.5G", bad: true},
		{in: "much", bad: true},
		{in: "99999999999999999999", want: 2147483647}, // refused by who knows the limit
		{in: "9999999999G", want: 2147483647 * 1024},
	} {
		var got memory
		err := got.Set(c.in)
		if got != c.want || (err != nil) != c.bad {
			t.Errorf("%q: %d, %v; want %d, an error: %v", c.in, got, err, c.want, c.bad)
		}
	}
}

func TestEnvironmentIsNameAndValue(t *testing.T) {
	got := environment{}
	for _, kv := range []string{"A=1", "B=x=y", "C=", "A=2"} {
		if err := got.Set(kv); err != nil {
			t.Errorf("%q: %v", kv, err)
		}
	}
	if diff := cmp.Diff(environment{"A": "2", "B": "x=y", "C": ""}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, kv := range []string{"A", "=x", ""} {
		if got.Set(kv) == nil {
			t.Errorf("%q was taken", kv)
		}
	}
}

func TestImagePathsAreMadeAbsolute(t *testing.T) {
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"":                  "",
		"/images/a":         "/images/a",
		"./a":               filepath.Join(wd, "a"),
		"../a":              filepath.Join(filepath.Dir(wd), "a"),
		"oci:a:tag":         "oci:" + filepath.Join(wd, "a:tag"),
		"oci:/images/a:tag": "oci:/images/a:tag",
		"oci:":              "oci:",
		"sha256:0123":       "sha256:0123",
	} {
		if got, err := imageRef(in); got != want || err != nil {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}
