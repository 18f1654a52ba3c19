package archive

import (
	"archive/tar"
	"fmt"
	"path"
	"strings"
)

// Bounds of a name in an archive.
const (
	maxName      = 4096
	maxComponent = 255
	maxDepth     = 256
)

// clean returns the name of an entry without what means nothing, or says why
// nothing may be called so.
func clean(name string) (string, error) {
	switch {
	case name == "":
		return "", fmt.Errorf("archive entry without a name")
	case len(name) > maxName:
		return "", refuse(name, "a name of %d bytes, at most %d are taken", len(name), maxName)
	case strings.ContainsRune(name, 0):
		return "", refuse(name, "a NUL in its name")
	case name[0] == '/':
		return "", refuse(name, "an absolute name: names are taken from the target on")
	}
	depth := 0
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "..":
			return "", refuse(name, `".." in its name: it would leave the target`)
		case len(part) > maxComponent:
			return "", refuse(name, "a part of its name has %d bytes, at most %d are taken", len(part), maxComponent)
		case part != "" && part != ".":
			depth++
		}
	}
	if depth > maxDepth {
		return "", refuse(name, "%d folders deep, at most %d are taken", depth, maxDepth)
	}
	return path.Clean(name), nil
}

// refuse says what is wrong with an entry.
func refuse(name, format string, args ...any) error {
	return fmt.Errorf("archive entry %s: %w", quote(name), fmt.Errorf(format, args...))
}

// quote makes a name that may be hostile fit for a line.
func quote(name string) string {
	const most = 120
	if len(name) > most {
		return fmt.Sprintf("%.120q...", name)
	}
	return fmt.Sprintf("%q", name)
}

// kinds are what no file is made of.
var kinds = map[byte]string{
	tar.TypeChar: "a device", tar.TypeBlock: "a device", tar.TypeFifo: "a fifo", tar.TypeCont: "a contiguous file",
}

// unwanted says what an entry is if it is not copied, else nothing.
func unwanted(h *tar.Header) string {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink, tar.TypeGNUSparse:
	default:
		if kind := kinds[h.Typeflag]; kind != "" {
			return kind
		}
		return fmt.Sprintf("of the unknown kind %q", h.Typeflag)
	}
	if sparse, known := sparseKind(h); sparse && (!known || h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeGNUSparse) {
		return "a sparse file of an unknown kind, which can be packed without --sparse"
	}
	return ""
}

// Incomplete says that all was copied but for some of it.
type Incomplete struct {
	// First is why the first one was not, More is how many others were not.
	First error
	More  int
}

// Error names the first one.
func (e *Incomplete) Error() string {
	if e.More == 0 {
		return fmt.Sprintf("not copied: %v", e.First)
	}
	return fmt.Sprintf("not copied: %v (and %d more)", e.First, e.More)
}

// Unwrap returns the first one.
func (e *Incomplete) Unwrap() error { return e.First }

// losses counts what is not copied.
type losses struct {
	first error
	n     int
}

func (l *losses) add(err error) {
	if l.n++; l.n == 1 {
		l.first = err
	}
}

func (l *losses) err() error {
	if l.n == 0 {
		return nil
	}
	return &Incomplete{First: l.first, More: l.n - 1}
}
