package link

import "encoding/binary"

// guard follows what a guest sends of yamux and refuses what a guest of ours
// never sends: pings and streams of its own. yamux starts a goroutine for each
// of them, which waits as long as the guest does not read.
type guard struct {
	head [muxHeader]byte
	have int    // of head
	body uint32 // still to come
}

// The parts of a yamux header that only the guard looks at.
const (
	muxTypeWindow = 1
	muxFlagsAt    = 2
	muxSYN        = 1
)

// check takes the next bytes of the session.
func (g *guard) check(b []byte) error {
	for len(b) > 0 {
		if g.body > 0 {
			n := min(uint32(len(b)), g.body)
			g.body -= n
			b = b[n:]
			continue
		}
		n := copy(g.head[g.have:], b)
		g.have += n
		b = b[n:]
		if g.have < muxHeader {
			return nil
		}
		g.have = 0
		flags := binary.BigEndian.Uint16(g.head[muxFlagsAt:])
		if g.head[muxTypeOffset] > muxTypeWindow || flags&muxSYN != 0 {
			return errFrame
		}
		if g.head[muxTypeOffset] == muxTypeData {
			g.body = binary.BigEndian.Uint32(g.head[muxLenOffset:])
		}
	}
	return nil
}
