package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// Options are what else an archive may decide.
type Options struct {
	// Owner keeps the numbers of owners and groups; what is unpacked is ours
	// otherwise.
	Owner bool
	// Setid keeps the bits that run a program as its owner or group.
	Setid bool
	// Capabilities keeps what a program may do beyond its user.
	Capabilities bool
}

// Bounds of what is remembered of an archive.
const (
	maxFolders  = 1 << 20
	maxLinkable = 4 << 20
	maxTrailer  = 1 << 20
)

// reader reads an archive.
type reader struct {
	src  *bufio.Reader
	tail *tail
	tar  *tar.Reader
	next *entry // read ahead
	n    int    // entries so far
}

// endMark is how many zeros at least end an archive. Package tar takes the end
// of the stream for it as well, and so a stream that was cut off for whole.
const endMark = 512

// tail counts the zeros at the end of what was read, up to endMark a read.
type tail struct {
	r     io.Reader
	read  bool
	zeros int
	// calls counts the reads: of a hole there are none.
	calls int
}

func (t *tail) Read(b []byte) (int, error) {
	t.calls++
	n, err := t.r.Read(b)
	last := b[max(0, n-endMark):n] // more than that need not be known
	rest := len(bytes.TrimRight(last, "\x00"))
	if rest > 0 {
		t.zeros = 0
	}
	t.zeros += len(last) - rest
	t.read = t.read || n > 0
	return n, err
}

// entry is a header whose name is clean.
type entry struct {
	*tar.Header
	name   string
	dir    bool
	sparse bool
	attrs  []attr
}

func newReader(r io.Reader) *reader {
	src := bufio.NewReaderSize(r, chunk)
	end := &tail{r: src}
	return &reader{src: src, tail: end, tar: tar.NewReader(end)}
}

// peek returns the next entry without taking it.
func (r *reader) peek() (*entry, error) {
	for r.next == nil {
		h, err := r.tar.Next()
		if err != nil {
			return nil, r.explain(err)
		}
		r.n++
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		name, err := clean(h.Name)
		if err != nil {
			return nil, err
		}
		r.next = &entry{Header: h, name: name, dir: h.Typeflag == tar.TypeDir}
	}
	return r.next, nil
}

// explain says what is wrong with an archive in words; io.EOF stays.
func (r *reader) explain(err error) error {
	switch {
	case errors.Is(err, io.EOF) && r.tail.read && r.tail.zeros < endMark:
		return fmt.Errorf("the archive breaks off after %d entries: its end is missing", r.n)
	case errors.Is(err, io.EOF):
		return io.EOF
	case r.n == 0 && (errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF)):
		return fmt.Errorf("not a tar archive: a whole one without compression is expected: %w", err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the archive breaks off after %d entries: %w", r.n, err)
	case errors.Is(err, tar.ErrHeader):
		return fmt.Errorf("the archive is damaged after %d entries: %w", r.n, err)
	}
	return fmt.Errorf("reading the archive: %w", err)
}

// unpack unpacks what is top and below it; top becomes name in root.
func (r *reader) unpack(root *os.Root, top, name string, o Options) (err error) {
	u := &unpacker{
		reader: r, root: root, top: top, as: name, options: o, buf: make([]byte, chunk), seed: maphash.MakeSeed(),
		files: map[uint64]struct{}{}, path: []level{{root: root}},
	}
	defer func() { err = errors.Join(err, u.finish(err == nil)) }()
	for {
		e, err := r.peek()
		if errors.Is(err, io.EOF) {
			return r.trailer()
		}
		if err != nil {
			return err
		}
		r.next = nil
		if err := u.entry(e); err != nil {
			return err
		}
	}
}

// trailer reads what archives are filled up with.
func (r *reader) trailer() error {
	n, err := io.Copy(io.Discard, io.LimitReader(r.src, maxTrailer+1))
	switch {
	case err != nil:
		return fmt.Errorf("reading the archive: %w", err)
	case n > maxTrailer:
		return errors.New("the archive goes on after its end")
	}
	return nil
}

type unpacker struct {
	*reader
	root    *os.Root
	top, as string
	options Options
	buf     []byte
	lost    losses

	// files are the regular files so far, by the hashes of their names; folders
	// are those whose modes and times are to be set.
	seed    maphash.Seed
	files   map[uint64]struct{}
	folders []folder
	path    []level
	held    int   // bytes of attributes that folders get later
	sparse  int64 // bytes of sparse files so far
	named   bool  // the file system has no files without a name
}

// place is where an entry goes.
func (u *unpacker) place(name string) (string, error) {
	rest, below := strings.CutPrefix(name, u.top+"/")
	switch {
	case u.top == ".":
		return path.Join(u.as, name), nil
	case name == u.top:
		return u.as, nil
	case below:
		return path.Join(u.as, rest), nil
	}
	return "", refuse(name, "it is not in %s, which was asked for", quote(u.top))
}

// entry unpacks one entry.
func (u *unpacker) entry(e *entry) error {
	at, err := u.place(e.name)
	if err != nil {
		return err
	}
	if what := unwanted(e.Header); what != "" {
		u.lost.add(refuse(e.name, "%s", what))
		return nil
	}
	e.sparse, _ = sparseKind(e.Header)
	if e.attrs, err = u.options.attrs(e.PAXRecords); err != nil {
		return refuse(e.name, "%w", err)
	}
	e.PAXRecords = nil // folders are remembered
	if at == "." {
		if e.dir {
			return nil // the target is the caller's and stays as it is
		}
		return refuse(e.name, "it would replace the target itself")
	}
	in, err := u.enter(path.Dir(at))
	if err == nil {
		err = u.make(e, in, path.Base(at), at)
	}
	if err != nil {
		return refuse(e.name, "%w", reason(err))
	}
	return nil
}

func (u *unpacker) make(e *entry, in *level, name, at string) error {
	switch e.Typeflag {
	case tar.TypeDir:
		return u.makeFolder(e, in, name, at)
	case tar.TypeSymlink:
		return u.makeSymlink(e, in, name, at)
	case tar.TypeLink:
		return u.makeLink(e, in, name, at)
	default:
		return u.makeFile(e, in, name, at)
	}
}

// reason drops the paths of an error, which are those of our own calls.
func reason(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return e.Err
	}
	return err
}

func (u *unpacker) hash(at string) uint64 { return maphash.String(u.seed, at) }

func (u *unpacker) remember(at string) {
	if len(u.files) < maxLinkable {
		u.files[u.hash(at)] = struct{}{}
	}
}

func (u *unpacker) forget(at string) { delete(u.files, u.hash(at)) }
