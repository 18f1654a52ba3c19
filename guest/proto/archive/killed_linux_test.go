package archive

import (
	"archive/tar"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestMain lets the test program be one that is killed while it unpacks.
func TestMain(m *testing.M) {
	dir := os.Getenv("AEGIS_TEST_UNPACK")
	if dir == "" {
		os.Exit(m.Run())
	}
	to, err := To("/", dir)
	if err == nil {
		err = to.Receive(os.Stdin, "f", Options{})
	}
	fmt.Println(err)
	os.Exit(1)
}

func header(t *testing.T, info fs.FileInfo) *tar.Header {
	t.Helper()
	h, err := tar.FileInfoHeader(nameless{info}, "")
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestAKilledCopyLeavesTheOldFileOrNone kills a copy in the middle of a file.
func TestAKilledCopyLeavesTheOldFileOrNone(t *testing.T) {
	whole := mustArchive(e{kind: isFile, name: "f", data: strings.Repeat("new", 1<<20)})
	for name, c := range map[string]struct{ there, want []string }{
		"a new name":  {nil, nil},
		"an old name": {[]string{"0644 f: old"}, []string{"0644 f: old"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, c.there...)
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), "AEGIS_TEST_UNPACK="+dir)
			in, err := cmd.StdinPipe()
			if err == nil {
				err = cmd.Start()
			}
			if err == nil {
				_, err = in.Write(whole[:2<<20]) // of which a pipe holds but a little
			}
			if err != nil {
				t.Fatal(err)
			}
			cmd.Process.Kill()
			cmd.Wait()
			got := tree(t, dir)
			if !hasNameless(t, dir) { // what is unfinished has a name of its own there
				got = slices.DeleteFunc(got, func(l string) bool { return strings.Contains(l, " .aegis-cp-") })
			}
			if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
				t.Errorf("the target has %.200q, want %q", got, c.want)
			}
		})
	}
}

// hasNameless tells whether files without names can be made in a folder.
func hasNameless(t *testing.T, dir string) bool {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	in := &level{root: root}
	defer in.close()
	f, err := in.openNameless()
	if err == nil {
		f.Close()
	}
	return err == nil
}

// TestFilesWithoutSuchHelpAreMadeBesideTheirPlace has the way of other file
// systems.
func TestFilesWithoutSuchHelpAreMadeBesideTheirPlace(t *testing.T) {
	for _, there := range [][]string{nil, {"0644 f: old"}, {"f -> nowhere"}} {
		dir := t.TempDir()
		write(t, dir, there...)
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		in := &level{root: root}
		defer in.close()
		u := &unpacker{named: true}
		f, err := u.fresh(in)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteString("new")
		at := &entry{Header: &tar.Header{Mode: 0o640, ModTime: ago}}
		if err := u.finishFile(f, at); err != nil {
			t.Error(err)
		}
		if err := f.place("f"); err != nil {
			t.Error(err)
		}
		if err := f.close(); err != nil {
			t.Error(err)
		}
		wantTree(t, dir, "0640 f: new")
		if info, err := os.Stat(dir + "/f"); err != nil || !info.ModTime().Equal(ago) {
			t.Errorf("time %v, %v", info.ModTime(), err)
		}
	}
}
