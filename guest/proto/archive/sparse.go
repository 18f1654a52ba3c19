package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
)

// segment is a part of a file that is no hole.
type segment struct{ off, n int64 }

const (
	// maxSegments of one file; what lies behind is packed with its holes.
	// Package tar takes a map of 1 MiB at most.
	maxSegments = 16 << 10
	// maxSparse is how large the sparse files of an archive may be in all: zeros
	// cost their sender nothing.
	maxSparse = 256 << 30
	// page is how much that is zero becomes a hole.
	page = 4096
)

const sparseRecord = "GNU.sparse."

// sparseKind tells whether an entry is a sparse file, and whether package tar
// knows of what kind: if not, it takes the map for content.
func sparseKind(h *tar.Header) (sparse, known bool) {
	if h.Typeflag == tar.TypeGNUSparse {
		return true, true
	}
	for key := range h.PAXRecords {
		sparse = sparse || strings.HasPrefix(key, sparseRecord)
	}
	version := h.PAXRecords[sparseRecord+"major"] + "." + h.PAXRecords[sparseRecord+"minor"]
	return sparse, version == "1.0" || version == "0.0" || version == "0.1" ||
		version == "." && h.PAXRecords[sparseRecord+"map"] != ""
}

// sparse packs a file with holes as GNU tar does, in its format 1.0, which
// package tar reads but does not write: the map is in front of the content.
func (p *packer) sparse(f *os.File, as string, h *tar.Header, segments []segment) error {
	segments = append(segments, segment{h.Size, 0}) // where the file ends
	layout := sparseMap(segments)
	stored := int64(len(layout))
	for _, s := range segments {
		stored += s.n
	}
	head := sparseHeader(h, as, stored)
	if err := p.tar.Flush(); err != nil {
		return err
	}
	for _, b := range [][]byte{head, layout} {
		if _, err := p.out.Write(b); err != nil {
			return err
		}
	}
	for _, s := range segments {
		if err := p.content(p.out, io.NewSectionReader(f, s.off, s.n), as, s.n); err != nil {
			return err
		}
	}
	_, err := p.out.Write(make([]byte, padding(stored)))
	return err
}

func sparseMap(segments []segment) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%d\n", len(segments))
	for _, s := range segments {
		fmt.Fprintf(&b, "%d\n%d\n", s.off, s.n)
	}
	return pad(b.Bytes())
}

// sparseHeader is an extended header with all that there is to say, and a plain
// one.
func sparseHeader(h *tar.Header, as string, stored int64) []byte {
	records := maps.Clone(h.PAXRecords)
	if records == nil {
		records = map[string]string{}
	}
	for key, value := range map[string]any{
		"major": 1, "minor": 0, "name": as, "realsize": h.Size,
	} {
		records[sparseRecord+key] = fmt.Sprint(value)
	}
	records["size"], records["uid"], records["gid"] = fmt.Sprint(stored), fmt.Sprint(h.Uid), fmt.Sprint(h.Gid)
	records["mtime"] = fmt.Sprint(h.ModTime.Unix())
	if h.ModTime.Unix() >= 0 {
		records["mtime"] += fmt.Sprintf(".%09d", h.ModTime.Nanosecond())
	}
	var text bytes.Buffer
	for _, key := range slices.Sorted(maps.Keys(records)) {
		text.WriteString(record(key, records[key]))
	}
	base := path.Base(as)
	base = base[:min(len(base), 60)]
	size := text.Len()
	b := plainHeader(tar.TypeXHeader, "PaxHeaders/"+base, 0o644, int64(size))
	b = append(b, pad(text.Bytes())...)
	return append(b, plainHeader(tar.TypeReg, "GNUSparseFile/"+base, h.Mode, stored)...)
}

// record is one of an extended header: it begins with its own length.
func record(key, value string) string {
	text := " " + key + "=" + value + "\n"
	n := len(text)
	for n != len(text)+len(fmt.Sprint(n)) {
		n = len(text) + len(fmt.Sprint(n))
	}
	return fmt.Sprint(n) + text
}

// plainHeader is a header as of POSIX.1-1988. A size that does not fit is in a
// record.
func plainHeader(kind byte, name string, mode, size int64) []byte {
	if size >= 1<<33 {
		size = 0
	}
	b := make([]byte, block)
	put := func(at int, format string, args ...any) { copy(b[at:], fmt.Sprintf(format, args...)) }
	put(0, "%s", name)
	put(100, "%07o\x00%07o\x00%07o\x00%011o\x00%011o\x00        %c", mode&0o7777, 0, 0, size, 0, kind)
	put(257, "ustar\x0000")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	put(148, "%06o\x00 ", sum)
	return b
}

const block = 512

func padding(n int64) int64 { return (block - n%block) % block }

func pad(b []byte) []byte { return append(b, make([]byte, padding(int64(len(b))))...) }

// fillSparse writes the content of a sparse file, and holes where it is zero.
func (u *unpacker) fillSparse(f *os.File, e *entry) error {
	if u.sparse += e.Size; u.sparse > maxSparse || e.Size > maxSparse {
		return fmt.Errorf("sparse files of more than %d bytes", int64(maxSparse))
	}
	at := int64(0)
	for at < e.Size {
		calls := u.tail.calls
		n, err := io.ReadFull(u.tar, u.buf[:min(e.Size-at, chunk)])
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("the archive breaks off after %d of its %d bytes: %w", at+int64(n), e.Size, err)
		}
		if u.tail.calls > calls {
			if err := writeData(f, u.buf[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
	}
	return f.Truncate(e.Size)
}

var zeroPage [page]byte

// writeData writes the pages of b that are not zero.
func writeData(f *os.File, b []byte, at int64) error {
	isHole := func(i int) bool { n := min(page, len(b)-i); return bytes.Equal(b[i:i+n], zeroPage[:n]) }
	for i := 0; i < len(b); {
		if isHole(i) {
			i += page
			continue
		}
		end := i + page
		for end < len(b) && !isHole(end) {
			end += page
		}
		end = min(end, len(b))
		if _, err := f.WriteAt(b[i:end], at+int64(i)); err != nil {
			return err
		}
		i = end
	}
	return nil
}
