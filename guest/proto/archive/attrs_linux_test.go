package archive

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// needRoot skips a test that needs more than a user may.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root gives programs capabilities: run it as root")
	}
}

const (
	// mayBind is cap_net_bind_service=ep.
	mayBind = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	// list lets user 4321 read.
	list = "\x02\x00\x00\x00" +
		"\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00\xe1\x10\x00\x00" + "\x04\x00\x04\x00\xff\xff\xff\xff" +
		"\x10\x00\x04\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff"
)

// label sets attributes, each file's as name, value, name, value.
func label(t *testing.T, path string, pairs ...string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := 0; i < len(pairs); i += 2 {
		if err := writeAttr(f, attr{pairs[i], pairs[i+1]}); err != nil {
			t.Fatalf("%s: %s: %v", path, pairs[i], err)
		}
	}
}

// labels are the attributes of a file.
func labels(t *testing.T, path string) map[string]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all, err := readAttrs(f)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]string{}
	for _, a := range all {
		m[a.name] = a.value
	}
	return m
}

func unpackWith(t *testing.T, b []byte, as string, o Options) (dir string) {
	t.Helper()
	dir = t.TempDir()
	to, err := To(dir, "/")
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if err := to.Receive(bytes.NewReader(b), as, o); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestAttributesGoAsFarAsTheyMay(t *testing.T) {
	needRoot(t)
	from := t.TempDir()
	write(t, from, "0755 d/", "0755 d/sub/", "0755 d/run: x", "0440 d/sub/f: y")
	label(t, filepath.Join(from, "d"), "user.folder", "d", defaultACL, list, "trusted.secret", "t")
	label(t, filepath.Join(from, "d/run"), capability, mayBind, "user.a=b%3D", "\x00\n=\xff", "user.empty", "", "security.other", "s")
	label(t, filepath.Join(from, "d/sub/f"), accessACL, list)
	b := packed(t, from, "d", false)
	user := map[string]map[string]string{
		"d": {"user.folder": "d"}, "d/sub": {}, "d/sub/f": {}, "d/run": {"user.a=b%3D": "\x00\n=\xff", "user.empty": ""},
	}
	with := func(file, name, value string, of map[string]map[string]string) map[string]map[string]string {
		m := map[string]map[string]string{}
		for f, labels := range of {
			m[f] = map[string]string{}
			for k, v := range labels {
				m[f][k] = v
			}
		}
		m[file][name] = value
		return m
	}
	lists := with("d", defaultACL, list, with("d/sub/f", accessACL, list, user))
	for name, c := range map[string]struct {
		options Options
		want    map[string]map[string]string
	}{
		"to the host":            {Options{}, user},
		"to the host, owners":    {Options{Owner: true, Setid: true}, lists},
		"to the machine":         {Options{Setid: true, Capabilities: true}, with("d/run", capability, mayBind, user)},
		"to the machine, owners": {Options{Owner: true, Setid: true, Capabilities: true}, with("d/run", capability, mayBind, lists)},
	} {
		t.Run(name, func(t *testing.T) {
			dir := unpackWith(t, b, "d", c.options)
			got := map[string]map[string]string{}
			for f := range c.want {
				got[f] = labels(t, filepath.Join(dir, f))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			var st syscall.Stat_t
			if err := syscall.Stat(filepath.Join(dir, "d/sub/f"), &st); err != nil || st.Mode&0o777 != 0o640 {
				t.Errorf("mode %#o, %v", st.Mode, err)
			}
		})
	}
}

// tarred runs GNU tar.
func tarred(t *testing.T, stdin []byte, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath("tar"); err != nil {
		t.Skip("SKIPPED: no tar: apt-get install tar")
	}
	cmd := exec.CommandContext(t.Context(), "tar", args...)
	cmd.Stdin = bytes.NewReader(stdin)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil || said.Len() > 0 {
		t.Fatalf("tar %q: %v: %s", args, err, &said)
	}
	return out
}

// holey makes a file with data here and there, whose size is odd.
func holey(t *testing.T, path string, size int64, at ...int64) []byte {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i, off := range at {
		if _, err := f.WriteAt(bytes.Repeat([]byte{byte('a' + i)}, 5000), off); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// wantHoley wants the same bytes in no more than half as many on the disk.
func wantHoley(t *testing.T, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes, %v; want %d", path, len(got), err, len(want))
	}
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil || st.Blocks*512 > int64(len(want))/2 {
		t.Errorf("%s: %d blocks for %d bytes, %v", path, st.Blocks, len(want), err)
	}
}

func TestHolesStayHoles(t *testing.T) {
	from := t.TempDir()
	if err := os.Mkdir(filepath.Join(from, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("n", 200)
	files := map[string][]byte{
		"d/begin":   holey(t, filepath.Join(from, "d/begin"), 1_000_001, 500_000),
		"d/end":     holey(t, filepath.Join(from, "d/end"), 1_000_001, 0),
		"d/many":    holey(t, filepath.Join(from, "d/many"), 3_000_000, 0, 100_000, 1_000_000, 2_995_000),
		"d/empty":   holey(t, filepath.Join(from, "d/empty"), 777_777),
		"d/" + long: holey(t, filepath.Join(from, "d", long), 300_000, 4096),
	}
	label(t, filepath.Join(from, "d/many"), "user.a", "1")
	write(t, from, "0644 d/after: x")
	b := packed(t, from, "d", false)
	if len(b) > 200_000 {
		t.Errorf("the archive has %d bytes", len(b))
	}
	ours := unpackWith(t, b, "d", Options{})
	theirs := t.TempDir()
	tarred(t, b, "-x", "--xattrs", "-C", theirs)
	for name, want := range files {
		wantHoley(t, filepath.Join(ours, name), want)
		wantHoley(t, filepath.Join(theirs, name), want)
	}
	for _, dir := range []string{ours, theirs} {
		a, b := tree(t, filepath.Join(from, "d")), tree(t, filepath.Join(dir, "d"))
		if diff := cmp.Diff(a, b); diff != "" {
			t.Errorf("%s: %.500s", dir, diff)
		}
		if got := labels(t, filepath.Join(dir, "d/many")); got["user.a"] != "1" {
			t.Errorf("%s: %q", dir, got)
		}
		info, err := os.Stat(filepath.Join(dir, "d/many"))
		was, werr := os.Stat(filepath.Join(from, "d/many"))
		if err != nil || werr != nil || !info.ModTime().Equal(was.ModTime()) {
			t.Errorf("%s: time %v, want %v", dir, info.ModTime(), was.ModTime())
		}
	}
}

func TestArchivesOfGNUTarAreTaken(t *testing.T) {
	from := t.TempDir()
	want := holey(t, filepath.Join(from, "f"), 3_000_000, 0, 100_000, 2_000_000)
	label(t, filepath.Join(from, "f"), "user.a=b", "1")
	for _, how := range [][]string{
		{"--format=gnu"},
		{"--format=posix", "--sparse-version=0.0"},
		{"--format=posix", "--sparse-version=0.1"},
		{"--format=posix", "--sparse-version=1.0", "--xattrs"},
	} {
		b := tarred(t, nil, append(how, "-c", "--sparse", "-C", from, "f")...)
		dir := unpackWith(t, b, "f", Options{})
		wantHoley(t, filepath.Join(dir, "f"), want)
		if got := labels(t, filepath.Join(dir, "f")); len(how) == 3 && got["user.a=b"] != "1" {
			t.Errorf("%q: %q", how, got)
		}
	}
}

func TestAFileThatLosesItsDataIsFilledUpAndTold(t *testing.T) {
	dir := t.TempDir()
	holey(t, filepath.Join(dir, "f"), 100_000, 50_000)
	f, err := os.OpenFile(filepath.Join(dir, "f"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	segments, sparse := dataOf(f, info)
	if !sparse {
		t.Skip("SKIPPED: the file system has no holes")
	}
	if err := f.Truncate(52_000); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	p := newPacker(&b)
	h := header(t, info)
	if err := p.sparse(f, "f", h, segments); err != nil {
		t.Fatal(err)
	}
	if err := p.end(); err == nil || !strings.Contains(err.Error(), `"f": it became `) {
		t.Errorf("error %v", err)
	}
	if got, err := os.ReadFile(filepath.Join(unpackWith(t, b.Bytes(), "f", Options{}), "f")); err != nil || len(got) != 100_000 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// TestALargeHoleCostsLittle is one that nobody would wait for if it were read.
func TestALargeHoleCostsLittle(t *testing.T) {
	dir := unpackWith(t, sparseOf(fmt.Sprint(8<<30), "1\n4294967296\n3\n", "abc"), "s", Options{})
	f, err := os.Open(filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 4)
	if _, err := f.ReadAt(b, 4<<30); err != nil || string(b) != "abc\x00" {
		t.Errorf("%q, %v", b, err)
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &st); err != nil || st.Size != 8<<30 || st.Blocks > 64 {
		t.Errorf("%d bytes in %d blocks, %v", st.Size, st.Blocks, err)
	}
}
