// Package link carries many streams over one serial byte pipe, such as a
// virtio-serial port, between a host and the harness of its guest. It owns the
// bytes on that pipe from the doorbell on; it opens no device and knows
// nothing of what the streams say.
//
// # Epochs
//
// A serial port has no connections: whoever holds the host's end may die in
// the middle of a frame, and a snapshot taken there may be restored under
// another host. So every attach of a host begins an epoch, named by 16 random
// bytes, and every frame names its epoch at its head and at its tail.
//
//	frame = "AGL" kind | length u32 | epoch [16] | version u32 | body [length] | epoch [:8]
//
// The host opens an epoch with as many zeros as two frames are long and then a
// reset frame. A guest that was inside an old frame completes it with zeros,
// finds no tail, drops it whole and hunts for the run of zeros that no body
// can hold, being shorter. It answers with an accept frame of the same epoch,
// before which the host drops everything. A body is delivered only when its
// frame is whole, so no stream ever sees a byte of another epoch. A guest
// accepts a host of any version, for it is the host that can tell somebody: it
// goes when the accept frame names another version than its own.
//
// # Streams
//
// Inside an epoch the bodies make the byte stream of a yamux session; the host
// opens the streams, and the first four bytes of each are its port. The first
// stream is the link's own (port 0) and carries what yamux cannot say: that a
// side has ended a stream in order, so that a session that broke is never
// taken for the end of the input, and that a side has stopped reading, so that
// the other does not write for ever.
package link
