package process

import "sync"

// copies gives whoever dials an output that is kept for the host what comes of
// it, after the last of what came while nobody had dialled it. Its client is
// waited for, as that of any stream.
type copies struct {
	mu sync.Mutex // guards client
	// client has the stream, nil if nobody.
	client *copied

	writing sync.Mutex // guards the fields below; held while bytes are written
	// to gets what comes; nil while its client is still given what was.
	to    *copied
	tail  []byte
	ended bool
}

// copied is one client of copies.
type copied struct {
	conn Conn
	once sync.Once
	// over is closed when nothing more can be written to it.
	over chan struct{}
}

func (c *copied) end() { c.once.Do(func() { close(c.over) }) }

// note takes what was read of the output.
func (c *copies) note(b []byte) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.to != nil {
		n, err := c.to.conn.Write(b)
		if b = b[n:]; err == nil {
			return
		}
		c.to.end()
		c.to = nil
	}
	c.tail = last(append(c.tail, b...))
}

// finish notes that nothing more will come.
func (c *copies) finish() {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.ended = true
	if c.to != nil {
		c.to.conn.CloseWrite()
		c.to.end()
	}
}

// serve gives conn the output until one of them ends.
func (c *copies) serve(conn Conn) error {
	me := &copied{conn: conn, over: make(chan struct{})}
	if !c.claim(me) {
		return ErrTaken
	}
	defer c.leave(me)
	if !c.begin(me) {
		return nil
	}
	select {
	case <-me.over:
	case <-gone(conn):
	}
	return nil
}

// claim makes me the client, in place of one that is dead.
func (c *copies) claim(me *copied) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client != nil && !dead(c.client.conn) {
		return false
	}
	if c.client != nil {
		c.client.end()
	}
	c.client = me
	return true
}

// begin writes what came before me; false when that is all.
func (c *copies) begin(me *copied) bool {
	c.writing.Lock()
	defer c.writing.Unlock()
	n, err := me.conn.Write(c.tail)
	if c.tail = c.tail[n:]; len(c.tail) == 0 {
		c.tail = nil // and its memory
	}
	switch {
	case err != nil:
		return false
	case c.ended:
		me.conn.CloseWrite()
		return false
	}
	c.to = me
	return true
}

func (c *copies) leave(me *copied) {
	c.mu.Lock()
	if c.client == me {
		c.client = nil
	}
	c.mu.Unlock()
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.to == me {
		c.to = nil
	}
}

func (c *copies) dialled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.client != nil && !dead(c.client.conn)
}

// finished tells whether there is nothing more to dial.
func (c *copies) finished() bool {
	if c == nil {
		return true
	}
	if c.dialled() || !c.writing.TryLock() { // nobody is waited for here
		return false
	}
	defer c.writing.Unlock()
	return c.ended && len(c.tail) == 0
}
