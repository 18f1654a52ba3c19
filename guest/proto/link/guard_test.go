package link

import (
	"encoding/binary"
	"testing"
)

// header makes one of yamux.
func header(kind byte, flags uint16, length uint32) []byte {
	h := make([]byte, muxHeader)
	h[muxTypeOffset] = kind
	binary.BigEndian.PutUint16(h[muxFlagsAt:], flags)
	binary.BigEndian.PutUint32(h[muxLenOffset:], length)
	return h
}

func TestAGuestMayNotPingOrOpenStreams(t *testing.T) {
	const ping, goAway, fin = 2, 3, 4
	body := append(header(muxTypeData, 0, 5), "\x00\x02\x00\x01x"...)
	for name, c := range map[string]struct {
		sent    []byte
		refused bool
	}{
		"data":                         {body, false},
		"a window":                     {header(muxTypeWindow, fin, 1<<20), false},
		"a ping":                       {header(ping, muxSYN, 7), true},
		"an answer to no ping":         {header(ping, 2, 7), true},
		"a farewell":                   {header(goAway, 0, 0), true},
		"a stream of its own":          {header(muxTypeWindow, muxSYN, 0), true},
		"a stream of its own by data":  {header(muxTypeData, muxSYN, 1), true},
		"data that looks like a ping":  {append(header(muxTypeData, 0, muxHeader), header(ping, 0, 0)...), false},
		"a ping behind data":           {append(append([]byte{}, body...), header(ping, 0, 0)...), true},
		"half a header, and no answer": {header(ping, 0, 0)[:7], false},
	} {
		for step := 1; step <= len(c.sent); step++ {
			var g guard
			var err error
			for rest := c.sent; len(rest) > 0 && err == nil; {
				n := min(step, len(rest))
				err, rest = g.check(rest[:n]), rest[n:]
			}
			if (err != nil) != c.refused {
				t.Errorf("%s in steps of %d: %v", name, step, err)
			}
		}
	}
}
