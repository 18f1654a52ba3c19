package image

import (
	"io/fs"
	"strings"
	"time"
)

// Bounds of one path, well above what Linux lets a program use at once.
const (
	maxDepth = 256  // directories above a file
	maxPath  = 4095 // bytes of a path, and of a link's target
	maxName  = 255  // bytes of one component
	maxHops  = 40   // symbolic links in one path, as in Linux
	maxSteps = 4096 // components in one path, symbolic links expanded
)

// inode is a file of the image. Its content is in the spool, at off.
type inode struct {
	mode      fs.FileMode
	uid, gid  uint32
	mtime     time.Time
	rdev      uint32
	target    string
	xattrs    map[string]string
	off, size int64
	children  map[string]*entry // of a directory
	// cleared is the last layer, counted from one, of which it is known that
	// nothing from below it is left in this directory, nor in those of the
	// layer itself in it.
	cleared int
	// Set by link once the tree is complete: how many names the inode has,
	// and the first of them in the order of the tree.
	nlink int
	first string
}

// entry is a name of an inode, and the layer that gave it.
type entry struct {
	*inode
	layer int
}

// tree is the file system that the layers make up, merged as overlays of one
// another. It is data only: no path of it is ever a path of the host, and a
// symbolic link leads nowhere but into the tree.
type tree struct {
	root     *inode
	limits   Limits
	files    int
	metadata int64
}

func newTree(limits Limits) *tree {
	return &tree{root: newDir(), limits: limits}
}

func newDir() *inode {
	return &inode{mode: fs.ModeDir | 0o755, mtime: time.Unix(0, 0), children: map[string]*entry{}}
}

// place is where a path leads: a directory and the names of what it holds.
type place struct {
	*inode
	depth, length int // components and bytes of the path of the directory
}

// split takes a path apart. A component ".." is refused: an image that needs
// it wants out.
func split(path string) ([]string, error) {
	var parts []string
	for part := range strings.SplitSeq(path, "/") {
		switch {
		case part == "" || part == ".":
		case part == "..":
			return nil, broken(`holds "..": paths of an image must not`)
		case len(part) > maxName:
			return nil, beyond("has a name of %d bytes, at most %d are possible", len(part), maxName)
		case strings.IndexByte(part, 0) >= 0:
			return nil, broken("holds a NUL")
		default:
			parts = append(parts, part)
		}
	}
	return parts, nil
}

// walk finds the directory at path as a process inside the image would, so
// that links are followed and ".." ends at the root. Missing directories are
// made if layer is not negative; else the result is nil.
func (t *tree) walk(path []string, layer int) (*place, error) {
	at := []place{{inode: t.root}}
	todo := append([]string(nil), path...)
	for hops, steps := 0, 0; len(todo) > 0; steps++ {
		name, here := todo[0], at[len(at)-1]
		todo = todo[1:]
		if steps > maxSteps || hops > maxHops {
			return nil, beyond("leads through too many symbolic links")
		}
		if name == "" || name == "." {
			continue
		}
		if name == ".." {
			at = at[:max(1, len(at)-1)]
			continue
		}
		e := here.children[name]
		if e == nil && layer < 0 {
			return nil, nil
		}
		if e == nil {
			e = &entry{newDir(), layer}
			if err := t.add(&here, name, e); err != nil {
				return nil, err
			}
		}
		switch e.mode.Type() {
		case fs.ModeDir:
			if layer >= 0 {
				e.layer = layer
			}
			at = append(at, place{e.inode, here.depth + 1, here.length + len(name) + 1})
		case fs.ModeSymlink:
			hops++
			todo = append(strings.Split(e.target, "/"), todo...)
			if strings.HasPrefix(e.target, "/") {
				at = at[:1]
			}
		default:
			return nil, broken("lies below %q, which is no directory", name)
		}
	}
	return &at[len(at)-1], nil
}

// add gives an inode a name, in place of what has that name now.
func (t *tree) add(p *place, name string, e *entry) error {
	length := p.length + len(name) + 1
	if p.depth >= maxDepth || length > maxPath {
		return beyond("lies %d directories deep and has %d bytes, at most %d and %d are possible", p.depth, length, maxDepth, maxPath)
	}
	if err := t.count(); err != nil {
		return err
	}
	t.metadata += int64(length + len(e.target))
	for k, v := range e.xattrs {
		t.metadata += int64(len(k) + len(v))
	}
	if t.metadata > t.limits.Metadata {
		return beyond("the image has more than %d bytes of names, links and attributes", t.limits.Metadata)
	}
	p.children[name] = e
	return nil
}

// count counts one entry of a layer.
func (t *tree) count() error {
	if t.files++; t.files > t.limits.Files {
		return beyond("the image has more than %d files and whiteouts", t.limits.Files)
	}
	return nil
}

// whiteout hides what the layers below gave under a name.
func whiteout(p *place, name string, layer int) {
	e := p.children[name]
	switch {
	case e == nil:
	case e.layer < layer:
		delete(p.children, name)
	case e.mode.IsDir():
		opaque(e.inode, layer)
	}
}

// opaque hides what the layers below gave in a directory. It looks at each
// directory once for a layer: what comes later is of the layer itself.
func opaque(dir *inode, layer int) {
	if dir.cleared == layer+1 {
		return
	}
	dir.cleared = layer + 1
	for name, e := range dir.children {
		switch {
		case e.layer < layer:
			delete(dir.children, name)
		case e.mode.IsDir():
			opaque(e.inode, layer)
		}
	}
}
