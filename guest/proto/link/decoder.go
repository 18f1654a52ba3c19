package link

import "bytes"

// decoder finds the frames of the current epoch in a byte stream. It holds no
// bytes: its caller offers what it has and drops what it is told to.
type decoder interface {
	// next looks at the head of b. It returns how many bytes to drop, and the
	// frame that they end with or one of kindNone when there is none in them.
	// With nothing to drop and no error it needs more bytes.
	next(b []byte) (n int, f frame, err error)
}

// guestDecoder is the guest's: it follows the host from epoch to epoch.
type guestDecoder struct {
	epoch epoch
	begun bool // there is an epoch
	lost  bool // hunting for the zeros that precede a reset
	run   int  // zeros seen while hunting
}

func (d *guestDecoder) next(b []byte) (int, frame, error) {
	if n := zeros(b); n > 0 {
		d.run += n
		return n, frame{}, nil
	}
	if len(b) == 0 {
		return 0, frame{}, nil
	}
	f, n, err := decode(b)
	if err == nil && n == 0 {
		// What was begun among the zeros of a reset may take its time; a
		// body is never long enough to hold them.
		return 0, frame{}, nil
	}
	if err != nil || !d.belongs(f) {
		return d.lose(b), frame{}, nil
	}
	d.run = 0
	if f.kind == kindReset {
		d.epoch, d.begun, d.lost = f.epoch, true, false
	}
	return n, f, nil
}

// belongs tells whether a whole frame is one to believe.
func (d *guestDecoder) belongs(f frame) bool {
	switch {
	case f.kind == kindReset:
		return !d.lost || d.run >= maxFrame
	case f.kind == kindData:
		return !d.lost && d.begun && f.epoch == d.epoch && f.version == version
	}
	return false
}

// lose drops what cannot be a frame of the epoch: one byte, and all that
// follows up to the next zero.
func (d *guestDecoder) lose(b []byte) int {
	d.lost, d.run = true, 0
	if n := bytes.IndexByte(b[1:], 0); n >= 0 {
		return 1 + n
	}
	return len(b)
}

// hostDecoder is the host's: it drops everything before the guest has
// accepted its epoch, which no older byte can name.
type hostDecoder struct {
	epoch    epoch
	accepted bool
}

func (d *hostDecoder) next(b []byte) (int, frame, error) {
	if !d.accepted {
		n, err := d.hunt(b)
		return n, frame{}, err
	}
	f, n, err := decode(b)
	if err == nil && n > 0 && (f.kind != kindData || f.epoch != d.epoch) {
		err = errFrame
	}
	return n, f, err
}

// hunt drops what comes before the accept frame, and then the frame itself.
func (d *hostDecoder) hunt(b []byte) (int, error) {
	start := control(kindAccept, &d.epoch)[:8+epochLen]
	i := bytes.Index(b, start)
	if i < 0 {
		return max(0, len(b)-len(start)+1), nil
	}
	if i > 0 {
		return i, nil
	}
	f, n, err := decode(b)
	if err == nil && n > 0 && f.version != version {
		err = versionError(f.version)
	}
	d.accepted = n > 0
	return n, err
}
