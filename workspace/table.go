package workspace

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// nodeID names a file to the guest; it is never used again for another one.
type nodeID uint64

const rootID nodeID = 1

// identity is what tells one file of the host from another, also after its
// inode was used again.
type identity struct {
	Dev, Ino uint64
	Born     int64 // nanoseconds, 0 where the file system does not know
}

// place is a name in a directory.
type place struct {
	dir  nodeID
	name string
}

// node is a file that the guest has a handle of.
type node struct {
	id     nodeID
	key    identity
	kind   uint32 // the S_IFMT bits of its mode
	places []place
}

// maxPlaces is how many names of one file are remembered.
const maxPlaces = 8

// maxDepth bounds the way from a file to the root.
const maxDepth = 2048

// kindDir is the kind of a directory.
const kindDir uint32 = 0o040000

// table knows the files that the guest has handles of, and where they were
// last seen. Its journal lets the next server know them as well.
type table struct {
	mu      sync.Mutex // guards all below
	tag     [8]byte    // of this table, so that handles of another are stale
	root    identity
	next    nodeID
	nodes   map[nodeID]*node
	byKey   map[identity]*node
	at      map[place]*node
	intents map[callID]intent // that an earlier server began
	order   []callID          // of intents, the oldest first
	active  map[callID]intent // that are being carried out
	journal *journal
	pending []byte // framed entries of the call under way
}

// openTable reads the table of a folder, or begins a new one if the journal is
// about another folder.
func openTable(path string, root identity, kind uint32) (*table, error) {
	t := &table{}
	t.clear(root, kind)
	j, err := openJournal(path, t.apply)
	if err != nil {
		return nil, err
	}
	t.journal = j
	if t.root != root || j.size == 0 {
		t.clear(root, kind)
		rand.Read(t.tag[:])
		if err := j.rewrite(t.all()); err != nil {
			j.close()
			return nil, err
		}
	}
	return t, nil
}

func (t *table) clear(root identity, kind uint32) {
	t.root, t.next = root, rootID+1
	r := &node{id: rootID, key: root, kind: kind}
	t.nodes, t.byKey, t.at = map[nodeID]*node{rootID: r}, map[identity]*node{root: r}, map[place]*node{}
	t.intents, t.active, t.order = map[callID]intent{}, map[callID]intent{}, nil
}

// handle makes what the guest calls a node.
func (t *table) handle(id nodeID) []byte {
	return binary.BigEndian.AppendUint64(slices.Clone(t.tag[:]), uint64(id))
}

var (
	errStale     = errors.New("stale handle")
	errBadHandle = errors.New("malformed handle")
)

// find returns a copy of the node of a handle.
func (t *table) find(handle []byte) (node, error) {
	if len(handle) != len(t.tag)+8 {
		return node{}, errBadHandle
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if [8]byte(handle) != t.tag {
		return node{}, errStale
	}
	n := t.nodes[nodeID(binary.BigEndian.Uint64(handle[8:]))]
	if n == nil {
		return node{}, errStale
	}
	return t.copy(n), nil
}

func (t *table) copy(n *node) node {
	c := *n
	c.places = slices.Clone(n.places)
	return c
}

// way returns the names from the root to a place.
func (t *table) way(p place) ([]string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	names := []string{p.name}
	for dir := p.dir; dir != rootID; {
		n := t.nodes[dir]
		if n == nil || len(n.places) == 0 || len(names) > maxDepth {
			return nil, false
		}
		names = append(names, n.places[0].name)
		dir = n.places[0].dir
	}
	slices.Reverse(names)
	return names, true
}

// parent returns the directory that a directory is in; the root's is itself.
func (t *table) parent(id nodeID) (node, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.nodes[id]
	if n != nil && len(n.places) > 0 {
		n = t.nodes[n.places[0].dir]
	}
	if n == nil {
		return node{}, false
	}
	return t.copy(n), true
}

// seen is a file that was found at a place.
type seen struct {
	place
	key  identity
	kind uint32
}

// learn remembers what was found and gives each its id.
func (t *table) learn(found ...seen) ([]nodeID, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ids := make([]nodeID, len(found))
	for i, s := range found {
		ids[i] = t.put(s)
	}
	return ids, t.commit()
}

// put needs the lock and a commit.
func (t *table) put(s seen) nodeID {
	there := t.at[s.place]
	if there != nil && there.key == s.key {
		return there.id
	}
	if there != nil {
		t.record(entryLeft, uint64(there.id), place{s.dir, s.name})
		t.leave(there, s.place)
	}
	n := t.byKey[s.key]
	if n == nil {
		n = &node{id: t.next, key: s.key, kind: s.kind}
		t.recordNode(n)
		t.addNode(n)
	}
	if n.id != rootID { // a root that was found in itself has no place
		t.record(entryPlace, uint64(n.id), s.place)
		t.settle(n, s.place)
	}
	return n.id
}

func (t *table) addNode(n *node) {
	t.next = max(t.next, n.id+1)
	t.nodes[n.id], t.byKey[n.key] = n, n
}

// settle makes p the place where n is looked for first. A directory has one.
func (t *table) settle(n *node, p place) {
	limit := maxPlaces
	if n.kind == kindDir {
		limit = 1
	}
	n.places = slices.Insert(slices.DeleteFunc(n.places, func(q place) bool { return q == p }), 0, p)
	for len(n.places) > limit {
		delete(t.at, n.places[len(n.places)-1])
		n.places = n.places[:len(n.places)-1]
	}
	t.at[p] = n
}

// leave forgets a place of n; without any left n itself is forgotten.
func (t *table) leave(n *node, p place) {
	if t.at[p] == n {
		delete(t.at, p)
	}
	n.places = slices.DeleteFunc(n.places, func(q place) bool { return q == p })
	if len(n.places) == 0 && n.id != rootID {
		delete(t.nodes, n.id)
		if t.byKey[n.key] == n {
			delete(t.byKey, n.key)
		}
	}
}

// forget notes that there is nothing at a place any more, and returns what
// was.
func (t *table) forget(p place) (nodeID, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.at[p]
	if n == nil {
		return 0, nil
	}
	t.record(entryLeft, uint64(n.id), p)
	t.leave(n, p)
	return n.id, t.commit()
}

// moved notes that a file is at another place now, in place of what was there.
func (t *table) moved(from place, to seen) (gone nodeID, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if there := t.at[to.place]; there != nil && there.key != to.key {
		gone = there.id
	}
	t.put(to)
	if n := t.at[from]; n != nil && from != to.place {
		t.record(entryLeft, uint64(n.id), from)
		t.leave(n, from)
	}
	return gone, t.commit()
}

// commit writes what was recorded. It needs the lock.
func (t *table) commit() error {
	err := t.journal.append(t.pending)
	t.pending = t.pending[:0]
	if err == nil && t.journal.full() {
		err = t.journal.rewrite(t.all())
	}
	return err
}

// The kinds of entries.
const (
	entryTable  = 't' // tag and root: the first one
	entryNode   = 'n' // id, identity, kind
	entryPlace  = 'p' // id is at a place
	entryLeft   = 'x' // id is not at a place any more
	entryIntent = 'q' // a call that changes names is about to be carried out
)

func (t *table) record(kind byte, id uint64, p place) {
	e := binary.AppendUvarint([]byte{kind}, id)
	e = binary.AppendUvarint(e, uint64(p.dir))
	t.pending = frame(t.pending, append(e, p.name...))
}

func (t *table) recordNode(n *node) {
	e := binary.AppendUvarint([]byte{entryNode}, uint64(n.id))
	t.pending = frame(t.pending, binary.AppendUvarint(appendIdentity(e, n.key), uint64(n.kind)))
}

func appendIdentity(b []byte, k identity) []byte {
	b = binary.AppendUvarint(b, k.Dev)
	b = binary.AppendUvarint(b, k.Ino)
	return binary.AppendVarint(b, k.Born)
}

// all is the framed journal of what the table knows.
func (t *table) all() []byte {
	t.pending = t.pending[:0]
	t.pending = frame(t.pending, appendIdentity(append([]byte{entryTable}, t.tag[:]...), t.root))
	for _, n := range t.nodes {
		if n.id != rootID {
			t.recordNode(n)
		}
		for _, p := range slices.Backward(n.places) {
			t.record(entryPlace, uint64(n.id), p)
		}
	}
	for _, id := range t.order {
		if in, ok := t.intents[id]; ok {
			t.recordIntent(id, in)
		}
	}
	for id, in := range t.active {
		t.recordIntent(id, in)
	}
	all := slices.Clone(t.pending)
	t.pending = t.pending[:0]
	return all
}

// apply reads one entry.
func (t *table) apply(entry []byte) error {
	r := reader{b: entry}
	switch kind := r.byte(); kind {
	case entryTable:
		copy(t.tag[:], r.take(len(t.tag)))
		t.clear(r.identity(), kindDir)
	case entryNode:
		n := &node{id: nodeID(r.uvarint()), key: r.identity(), kind: uint32(r.uvarint())}
		if n.id != rootID {
			t.addNode(n)
		}
	case entryPlace, entryLeft:
		n := t.nodes[nodeID(r.uvarint())]
		p := place{dir: nodeID(r.uvarint()), name: string(r.b)}
		switch {
		case n == nil || n.id == rootID:
		case kind == entryPlace:
			t.settle(n, p)
		default:
			t.leave(n, p)
		}
	case entryIntent:
		t.remember(readIntent(&r))
	default:
		return fmt.Errorf("an entry of kind %q: it was written by a newer server", kind)
	}
	return r.err
}

// reader reads the fields of an entry.
type reader struct {
	b   []byte
	err error
}

var errShort = errors.New("an entry is too short")

func (r *reader) take(n int) []byte {
	if len(r.b) < n {
		r.err, r.b = errShort, nil
		return make([]byte, n)
	}
	taken := r.b[:n]
	r.b = r.b[n:]
	return taken
}

func (r *reader) byte() byte { return r.take(1)[0] }

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.err = errShort
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.err = errShort
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) identity() identity {
	return identity{Dev: r.uvarint(), Ino: r.uvarint(), Born: r.varint()}
}
