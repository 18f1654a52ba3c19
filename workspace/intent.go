package workspace

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
)

// callID tells one call from another: a guest that got no answer repeats the
// call with the same number and the same bytes.
type callID struct {
	xid  uint32
	hash [8]byte
}

func newCallID(xid uint32, call []byte) callID {
	sum := sha256.Sum256(call)
	return callID{xid: xid, hash: [8]byte(sum[:])}
}

// intent is what there was before a call that changes names: the files at the
// place that it takes away and at the one that it makes, zero for none. When
// the call is repeated to a server that was started meanwhile, it tells what
// had been done already from what was never there.
type intent struct {
	from, to identity
}

// intend notes an intent, durably as far as this process is concerned.
func (t *table) intend(id callID, in intent) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.active[id] = in
	t.recordIntent(id, in)
	return t.commit()
}

func (t *table) recordIntent(id callID, in intent) {
	e := binary.AppendUvarint([]byte{entryIntent}, uint64(id.xid))
	e = append(e, id.hash[:]...)
	t.pending = frame(t.pending, appendIdentity(appendIdentity(e, in.from), in.to))
}

// settled says that a call that was intended has been answered for.
func (t *table) settled(id callID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.active, id)
}

// maxRepeats is how many of the last calls that change names may be repeated;
// a guest has far fewer under way.
const maxRepeats = 4096

// remember keeps an intent of an earlier server.
func (t *table) remember(id callID, in intent) {
	t.intents[id] = in
	if t.order = append(t.order, id); len(t.order) > maxRepeats {
		delete(t.intents, t.order[0])
		t.order = t.order[1:]
	}
}

// intended returns, once, the intent that an earlier server had for a call.
func (t *table) intended(id callID) (intent, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	in, ok := t.intents[id]
	delete(t.intents, id)
	return in, ok
}

func readIntent(r *reader) (callID, intent) {
	id := callID{xid: uint32(r.uvarint())}
	copy(id.hash[:], r.take(len(id.hash)))
	return id, intent{from: r.identity(), to: r.identity()}
}

// call is what a procedure knows of its caller.
type call struct {
	id       callID
	uid, gid uint32
	gids     []uint32
}

type callKey struct{}

func withCall(ctx context.Context, c call) context.Context {
	return context.WithValue(ctx, callKey{}, c)
}

func callOf(ctx context.Context) call {
	c, _ := ctx.Value(callKey{}).(call)
	return c
}
