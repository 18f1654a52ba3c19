package fake

import (
	"bytes"
	"context"
	"io"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/vmm/fake/program"
)

// tty is a terminal in its first modes, as far as tests need: it echoes, edits
// nothing, and turns control characters into signals and ends of the input.
type tty struct {
	out    *output
	signal func(int)

	mu         sync.Mutex // guards the fields below
	more       sync.Cond
	rows, cols int
	input      []byte // lines that were not read yet
	line       []byte // not ended yet
	eofs       int
	closed     bool
}

func newTTY(t *proto.Tty, out *output, signal func(int)) *tty {
	y := &tty{out: out, signal: signal, rows: int(t.GetRows()), cols: int(t.GetCols())}
	y.more.L = &y.mu
	return y
}

// typed takes what the user types.
func (t *tty) typed(b []byte) {
	for _, c := range b {
		switch c {
		case 3, 28:
			t.out.Write([]byte{'^', c + '@'})
			t.signal(map[byte]int{3: 2, 28: 3}[c])
			continue
		case 4:
		case '\r':
			c = '\n'
			fallthrough
		default:
			t.Write([]byte{c})
		}
		t.take(c)
	}
}

// take adds a character to the input.
func (t *tty) take(c byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch c {
	case 4:
		if len(t.line) == 0 {
			t.eofs++
		}
	default:
		t.line = append(t.line, c)
	}
	if c == 4 || c == '\n' {
		t.input, t.line = append(t.input, t.line...), nil
		t.more.Broadcast()
	}
}

// Read reads typed lines.
func (t *tty) Read(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.input) == 0 && t.eofs == 0 && !t.closed {
		t.more.Wait()
	}
	if len(t.input) == 0 {
		t.eofs--
		return 0, io.EOF
	}
	n := copy(b, t.input)
	t.input = t.input[n:]
	return n, nil
}

// Write shows what the program says.
func (t *tty) Write(b []byte) (int, error) {
	t.out.Write(bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")))
	return len(b), nil
}

// Close ends reads.
func (t *tty) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.more.Broadcast()
	return nil
}

func (t *tty) resize(rows, cols int) {
	t.mu.Lock()
	t.rows, t.cols = rows, cols
	t.mu.Unlock()
	t.signal(28)
}

// connect makes what stdin, stdout and stderr of the program are.
func (p *process) connect(r *proto.StartRequest) (*program.Proc, error) {
	if t := r.GetTerminal(); t != nil {
		out := &output{}
		p.outputs[proto.Terminal] = out
		p.tty = newTTY(t, out, p.fromTerminal)
		p.inner = append(p.inner, out, p.tty)
		env := r.GetEnv()
		if t.GetTerm() != "" {
			env = append([]string{"TERM=" + t.GetTerm()}, env...)
		}
		return &program.Proc{Argv: r.GetArgv(), Env: env, Stdin: p.tty, Stdout: p.tty, Stderr: p.tty}, nil
	}
	proc, err := p.plumb(r)
	if err != nil || r.GetLifetime() != proto.Lifetime_LIFETIME_DETACHED {
		return proc, err
	}
	for k, w := range map[proto.Kind]*io.Writer{proto.Stdout: &proc.Stdout, proto.Stderr: &proc.Stderr} {
		out := &output{}
		if r.GetKept() { // both get all of it
			p.outputs[k], *w = out, io.MultiWriter(*w, out)
			p.inner = append(p.inner, out)
		} else if f := p.take(k); f != nil {
			f.Close()
			p.outputs[k], *w = out, out
			p.inner = append(p.inner, out)
		}
	}
	return proc, nil
}

// fromTerminal delivers a signal of the terminal. Nobody who does not catch a
// change of its size is ended by it.
func (p *process) fromTerminal(n int) {
	p.mu.Lock()
	ignored := n == 28 && !p.catch
	p.mu.Unlock()
	if !ignored {
		p.signal(n)
	}
}

func (p *process) size() (rows, cols int, ok bool) {
	if p.tty == nil {
		return 0, 0, false
	}
	p.tty.mu.Lock()
	defer p.tty.mu.Unlock()
	return p.tty.rows, p.tty.cols, true
}

// Resize sets the size of a terminal.
func (g *guest) Resize(_ context.Context, r *proto.ResizeRequest) (*proto.Empty, error) {
	p := g.process(r.GetId())
	switch {
	case p == nil:
		return nil, noProcess(r.GetId())
	case p.tty == nil:
		return nil, status.Errorf(codes.FailedPrecondition, "process %q has no terminal", r.GetId())
	}
	p.tty.resize(int(r.GetRows()), int(r.GetCols()))
	return &proto.Empty{}, nil
}
