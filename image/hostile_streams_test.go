package image_test

import (
	"archive/tar"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/image"
	"github.com/xfeldman/aegisvm/image/imagetest"
)

// patched is the stream of one entry whose header was changed by hand.
func patched(t *testing.T, e imagetest.Entry, change func(header []byte)) []byte {
	t.Helper()
	stream := imagetest.Tar(t, e)
	change(stream[:512])
	checksum(stream[:512])
	return stream
}

// checksum makes a changed header valid.
func checksum(h []byte) {
	copy(h[148:], "        ")
	sum := 0
	for _, c := range h[:512] {
		sum += int(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
}

// pax is an entry whose name comes from a PAX record that no writer would
// make.
func pax(t *testing.T, record string) []byte {
	t.Helper()
	body := fmt.Sprintf("%d %s\n", len(record)+4, record) // for records of two digits
	header := patched(t, file("PaxHeaders.0/x", body), func(h []byte) { h[156] = tar.TypeXHeader })
	return append(header[:1024], imagetest.Tar(t, file("x", "1"))...)
}

func TestHostileStreamsAreRefused(t *testing.T) {
	whole := imagetest.Tar(t, file("a", strings.Repeat("x", 3000)))
	for name, test := range map[string]struct {
		stream  []byte
		message string
	}{
		"a name with a NUL":          {pax(t, "path=a\x00/../../canary"), "damaged"},
		"a link target with a NUL":   {pax(t, "linkpath=a\x00b12345"), "damaged"},
		"a name that climbs, in PAX": {pax(t, "path=../../canary"), `holds ".."`},
		"a size that is negative":    {pax(t, "size=-5000000000"), "damaged"},
		"a size that lies":           {patched(t, file("a", "1"), func(h []byte) { copy(h[124:], "00000077777\x00") }), "damaged"},
		"a checksum that lies":       {func() []byte { b := imagetest.Tar(t, file("a", "1")); b[0] = 'b'; return b }(), "damaged"},
		"an end in the middle":       {whole[:2000], "damaged"},
		"a header cut off":           {whole[:300], "damaged"},
		"no tar at all":              {[]byte(strings.Repeat("no tar ", 100)), "damaged"},
		"a type that nobody knows":   {patched(t, file("a", ""), func(h []byte) { h[156] = 'V' }), "type 'V'"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			layout := imagetest.Layout(t, imagetest.Image{Layers: []imagetest.Layer{{Stream: test.stream}}})
			refuseEverywhere(t, layout, image.Limits{}, api.InvalidArgument, test.message)
		})
	}
}

func TestHostileLayersAreContained(t *testing.T) {
	device := func(kind byte, name string, major, minor int64) imagetest.Entry {
		return imagetest.Entry{Header: tar.Header{Typeflag: kind, Name: name, Mode: 0o666, Devmajor: major, Devminor: minor}}
	}
	for name, test := range map[string]struct {
		layers []imagetest.Layer
		want   []string
	}{
		"an absolute name": {
			[]imagetest.Layer{{Entries: entries{file("/etc/passwd", "1")}}},
			[]string{"etc drwxr-xr-x", "etc/passwd -rw-r--r-- 1"},
		},
		"a file through an absolute link": {
			[]imagetest.Layer{{Entries: entries{symlink("l", "/etc"), file("l/passwd", "1")}}},
			[]string{"etc drwxr-xr-x", "etc/passwd -rw-r--r-- 1", "l Lrwxrwxrwx -> /etc"},
		},
		"a file through a link that climbs": {
			[]imagetest.Layer{{Entries: entries{symlink("l", "../../../../.."), file("l/canary", "1")}}},
			[]string{"canary -rw-r--r-- 1", "l Lrwxrwxrwx -> ../../../../.."},
		},
		"a file in the place of a link to the host": {
			[]imagetest.Layer{{Entries: entries{symlink("localtime", "/etc/localtime")}}, {Entries: entries{file("localtime", "1")}}},
			[]string{"localtime -rw-r--r-- 1"},
		},
		"a whiteout through a link that climbs": {
			[]imagetest.Layer{{Entries: entries{symlink("l", "../.."), file("canary", "1")}}, {Entries: entries{file("l/.wh.canary", "")}}},
			[]string{"l Lrwxrwxrwx -> ../.."},
		},
		"an opaque mark through an absolute link": {
			[]imagetest.Layer{{Entries: entries{file("etc/x", "1"), symlink("l", "/etc")}}, {Entries: entries{file("l/.wh..wh..opq", "")}}},
			[]string{"etc drwxr-xr-x", "l Lrwxrwxrwx -> /etc"},
		},
		"devices of the host": {
			[]imagetest.Layer{{Entries: entries{device(tar.TypeBlock, "sda", 8, 0), device(tar.TypeChar, "mem", 1, 1), device(tar.TypeFifo, "p", 0, 0)}}},
			[]string{"mem Dcrw-rw-rw-", "p prw-rw-rw-", "sda Drw-rw-rw-"},
		},
		"names twice": {
			[]imagetest.Layer{{Entries: entries{file("a", "1"), file("a", "2"), file("./a", "3"), file("//a", "4")}}},
			[]string{"a -rw-r--r-- 4"},
		},
		"a name that is no UTF-8": {
			[]imagetest.Layer{{Entries: entries{file("\xff\xfe\xc0\xaf", "1")}}},
			[]string{"\xff\xfe\xc0\xaf -rw-r--r-- 1"},
		},
		"two names that look alike": {
			[]imagetest.Layer{{Entries: entries{file("é", "1"), file("e\u0301", "2"), file("\u202egpj", "3")}}},
			[]string{"e\u0301 -rw-r--r-- 2", "é -rw-r--r-- 1", "\u202egpj -rw-r--r-- 3"},
		},
		"a file that is all hole": {
			[]imagetest.Layer{{Stream: sparse(t, 1<<20)}},
			nil, // told by its size below
		},
		"a global header that renames": {
			[]imagetest.Layer{{Entries: entries{{Header: tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "g", PAXRecords: map[string]string{"path": "../../canary"}}}, file("a", "1")}}},
			[]string{"a -rw-r--r-- 1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			parent := t.TempDir()
			canaries := plantCanaries(t, parent)
			r := imagetest.NewRegistry(t)
			r.Push(t, "img", "1", imagetest.Image{Layers: test.layers})
			s := openAt(t, parent, r)
			img := pull(t, s, r.Host+"/img:1", "")
			f, err := s.Open(t.Context(), img.Digest)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			got := list(t, f)
			if test.want == nil {
				if len(got) != 2 || len(got[1]) < 1<<20 {
					t.Errorf("%d files", len(got))
				}
			} else if diff := cmp.Diff(append([]string{". drwxr-xr-x"}, test.want...), got); diff != "" {
				t.Error(diff)
			}
			canaries(t)
		})
	}
}
