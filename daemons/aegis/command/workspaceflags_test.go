package command

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWorkspaceFlags(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("HOME", dir)
	if err := os.Mkdir("there", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("file", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		ref    string
		create bool
		want   string
		words  string // of the refusal
	}{
		{ref: ""},
		{ref: "notes", want: "notes"},
		{ref: "there", want: "there"}, // a name, although a folder is called so
		{ref: "auto", want: "auto"},
		{ref: "notes", create: true, want: "notes"},
		{ref: "./there", want: filepath.Join(dir, "there")},
		{ref: ".", want: dir},
		{ref: "there/", want: filepath.Join(dir, "there")},
		{ref: "~/there", want: filepath.Join(dir, "there")},
		{ref: "~", want: dir},
		{ref: dir + "/there/../there", want: filepath.Join(dir, "there")},
		{ref: "./missing", words: "--create-workspace"},
		{ref: "./new/deep", create: true, want: filepath.Join(dir, "new/deep")},
		{ref: "./new/deep", want: filepath.Join(dir, "new/deep")},
		{ref: "./file", words: "no folder"},
		{ref: "./file/x", create: true, words: "not a directory"},
		{ref: "", create: true, words: "without --workspace"},
	} {
		got, err := workspaceFlags{ref: c.ref, create: c.create}.resolve()
		if got != c.want || (err != nil) != (c.words != "") || err != nil && !strings.Contains(err.Error(), c.words) {
			t.Errorf("%q, create %v: %q, %v; expected %q, %q", c.ref, c.create, got, err, c.want, c.words)
		}
	}
}
