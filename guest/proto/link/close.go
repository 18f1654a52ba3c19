package link

// CloseWrite ends our direction: the other side reads io.EOF after what was
// written. Reading goes on. It waits for a Write under way.
func (c *Conn) CloseWrite() error {
	c.sending.Lock()
	defer c.sending.Unlock()
	c.mu.Lock()
	first := !c.shut && !c.broken
	c.shut = true
	c.mu.Unlock()
	c.writable.raise()
	if !first {
		return nil
	}
	err := c.mux.tell(kindEnd, c.id, 0)
	c.settle()
	return err
}

// Close ends both directions. It does not wait: what was written before is
// still delivered, what has arrived and was not read is dropped, and the other
// side is told not to write any more.
func (c *Conn) Close() error {
	c.mu.Lock()
	again := c.closed
	tell := !again && !c.gotEnd && !c.broken
	c.closed = true
	c.drop()
	c.mu.Unlock()
	if again {
		return nil
	}
	c.readable.raise()
	c.writable.raise()
	go func() { // ends when the pipe takes the frames, or breaks
		c.CloseWrite()
		if tell {
			c.mux.tell(kindStop, c.id, 0)
		}
	}()
	return nil
}

// settle forgets the stream when both sides have ended it.
func (c *Conn) settle() {
	c.mu.Lock()
	over := c.shut && c.gotEnd
	c.mu.Unlock()
	if over {
		c.mux.forget(c.id)
	}
}

// drop drops what was not read; c.mu is held.
func (c *Conn) drop() {
	for _, p := range c.pieces {
		p.in.release()
	}
	c.pieces, c.queued = nil, 0
}

// share is the shortest body that is worth holding its chunk for.
const share = chunkLen / 32

// deliver takes data from the other side.
func (c *Conn) deliver(b []byte, in *chunk) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.gotEnd || c.queued+len(b) > window:
		return errFrame
	case c.closed:
		return nil
	case len(b) >= share:
		in.refs.Add(1)
		c.pieces = append(c.pieces, piece{b, in})
	default:
		c.keep(b)
	}
	c.queued += len(b)
	c.readable.raise()
	return nil
}

// keep copies b, to the last piece where that is a copy, too: many short
// frames must not cost more than their bytes.
func (c *Conn) keep(b []byte) {
	if n := len(c.pieces); n > 0 && c.pieces[n-1].in == nil && len(c.pieces[n-1].b) < share {
		last := &c.pieces[n-1].b
		*last = append(*last, b...)
		return
	}
	c.pieces = append(c.pieces, piece{b: append([]byte(nil), b...)})
}

// credited takes the right to send more.
func (c *Conn) credited(n uint32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n > window || c.credit+int(n) > window {
		return errFrame
	}
	c.credit += int(n)
	c.writable.raise()
	return nil
}

// ended takes the end of the other side's data.
func (c *Conn) ended() {
	c.mu.Lock()
	c.gotEnd = true
	c.mu.Unlock()
	c.readable.raise()
	c.settle()
}

// stopped takes that the other side takes no more.
func (c *Conn) stopped() {
	c.mu.Lock()
	first := !c.gotStop
	c.gotStop = true
	c.mu.Unlock()
	c.writable.raise()
	if first {
		c.finish()
		go c.CloseWrite() // ends when the pipe takes the frame, or breaks
	}
}

// breakOff takes the end of the session.
func (c *Conn) breakOff() {
	c.mu.Lock()
	c.broken = true
	c.mu.Unlock()
	c.readable.raise()
	c.writable.raise()
	c.finish()
}

func (c *Conn) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.done:
	default:
		close(c.done)
	}
}
