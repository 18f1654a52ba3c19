package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// maxMessage bounds one QMP message: the monitor is as trusted as its guest.
const maxMessage = 1 << 20

// errMonitorGone is wrapped by calls to a monitor that hung up.
var errMonitorGone = errors.New("monitor has closed its QMP connection")

// qmpError is a refusal by the monitor.
type qmpError struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

func (e *qmpError) Error() string { return e.Desc }

// message is anything that the monitor sends.
type message struct {
	QMP    json.RawMessage `json:"QMP"`
	ID     string          `json:"id"`
	Return json.RawMessage `json:"return"`
	Error  *qmpError       `json:"error"`
	Event  string          `json:"event"`
	Data   json.RawMessage `json:"data"`
}

// qmp is a client of QEMU's monitor on a connection that QEMU inherited. The
// published clients dial by path and cannot pass descriptors.
type qmp struct {
	conn *net.UnixConn
	// onEvent is called for each event, in order, from the reader.
	onEvent func(name string, data json.RawMessage)
	greeted chan struct{} // closed by the greeting
	gone    chan struct{} // closed when the reader has ended
	writing sync.Mutex

	mu      sync.Mutex // guards the fields below
	last    int
	waiting map[string]chan message
}

// newQMP starts the reader, which ends when the connection does.
func newQMP(conn *net.UnixConn, onEvent func(string, json.RawMessage)) *qmp {
	q := &qmp{
		conn: conn, onEvent: onEvent,
		greeted: make(chan struct{}), gone: make(chan struct{}), waiting: map[string]chan message{},
	}
	go q.read()
	return q
}

func (q *qmp) read() {
	defer close(q.gone)
	defer q.conn.Close()
	greeted := false
	in := bufio.NewScanner(q.conn)
	in.Buffer(nil, maxMessage)
	for in.Scan() {
		m, err := parseMessage(in.Bytes())
		switch {
		case err != nil:
			return
		case m.QMP != nil && !greeted:
			greeted = true
			close(q.greeted)
		case m.Event != "":
			q.onEvent(m.Event, m.Data)
		case m.ID != "":
			q.answer(m)
		}
	}
}

// parseMessage reads one line from the monitor.
func parseMessage(line []byte) (message, error) {
	var m message
	if err := json.Unmarshal(line, &m); err != nil {
		return message{}, fmt.Errorf("reading a QMP message: %w", err)
	}
	return m, nil
}

func (q *qmp) answer(m message) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if c := q.waiting[m.ID]; c != nil {
		delete(q.waiting, m.ID)
		c <- m // buffered
	}
}

// handshake waits for the greeting and leaves negotiation mode.
func (q *qmp) handshake(ctx context.Context) error {
	select {
	case <-q.greeted:
	case <-q.gone:
		return errMonitorGone
	case <-ctx.Done():
		return fmt.Errorf("waiting for the QMP greeting: %w", ctx.Err())
	}
	return q.call(ctx, "qmp_capabilities", nil)
}

// call runs a command and waits for its answer; files travel with it.
func (q *qmp) call(ctx context.Context, command string, arguments any, files ...*os.File) error {
	answer := make(chan message, 1)
	q.mu.Lock()
	q.last++
	id := strconv.Itoa(q.last)
	q.waiting[id] = answer
	q.mu.Unlock()
	defer func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		delete(q.waiting, id)
	}()
	if err := q.send(command, arguments, id, files); err != nil {
		return fmt.Errorf("%s: %w: %w", command, errMonitorGone, err)
	}
	select {
	case m := <-answer:
		if m.Error != nil {
			return fmt.Errorf("%s: %w", command, m.Error)
		}
		return nil
	case <-q.gone:
		return fmt.Errorf("%s: %w", command, errMonitorGone)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", command, ctx.Err())
	}
}

func (q *qmp) send(command string, arguments any, id string, files []*os.File) error {
	b, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        string `json:"id"`
	}{command, arguments, id})
	if err != nil {
		return err
	}
	var oob []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		oob = unix.UnixRights(fds...)
	}
	q.writing.Lock()
	defer q.writing.Unlock()
	_, _, err = q.conn.WriteMsgUnix(append(b, '\n'), oob, nil)
	return err
}
