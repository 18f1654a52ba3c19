package instance

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/guestsession"
	"github.com/xfeldman/aegisvm/daemons/aegisd/logs"
	"github.com/xfeldman/aegisvm/guest/proto"
)

// output collects what a process of a boot prints into the log of its
// instance. It outlives the boot's own context, so that the last words of
// a machine that died are read.
type output struct {
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{} // closed when all is in the log
}

// lastWords is how long the end of an instance waits for the last output of
// its process.
const lastWords = 5 * time.Second

// collect begins to collect, unless a client has the streams.
func (o *owner) collect(b *boot) {
	b.output = o.newOutput()
	if o.spec.Attach {
		close(b.output.done)
		return
	}
	o.collectProcess(b, b.output, primary, logs.Stream{Boot: b.generation, Source: api.LogServer})
}

func (o *owner) newOutput() *output {
	out := &output{done: make(chan struct{})}
	out.ctx, out.cancel = context.WithCancel(o.svc.ctx)
	return out
}

// collectProcess collects both outputs of a process as stream s.
func (o *owner) collectProcess(b *boot, out *output, id string, s logs.Stream) {
	var streams sync.WaitGroup
	for kind, name := range map[proto.Kind]string{proto.Stdout: api.LogStdout, proto.Stderr: api.LogStderr} {
		stream := s
		stream.Name = name
		streams.Go(func() { o.collectStream(b, out.ctx, id, kind, stream) })
	}
	o.svc.tasks.Go(func() {
		streams.Wait()
		close(out.done)
	})
}

// giveUp is how long a stream that cannot be reached is dialled again. Longer
// than a restart of vmmd takes, and no machine of an older release, whose
// guest does not know kept streams, is asked for ever.
const giveUp = 5 * time.Minute

// collectStream collects one stream until it has ended. Where the path to it
// breaks, or aegisd was killed, it goes on behind what the log has.
func (o *owner) collectStream(b *boot, ctx context.Context, process string, kind proto.Kind, s logs.Stream) {
	at, known, err := o.log.Offset(s)
	if err != nil {
		o.svc.Log.Error("log not read", "instance", o.id, "error", err)
	}
	const shortest, longest = 50 * time.Millisecond, time.Second
	backoff, reached, vain := shortest, time.Now(), 0
	for ctx.Err() == nil {
		next, err := o.collectOnce(b, ctx, process, kind, s, at, known)
		if errors.Is(err, guestsession.ErrNoStream) {
			return
		}
		if vain++; next > at {
			at, known = next, true
			backoff, reached, vain = shortest, time.Now(), 0
		}
		if errors.Is(err, io.EOF) && vain <= 1 {
			continue // to be told whether that was the end
		}
		if gone, _ := o.machineGone(b); gone || b.ctx.Err() != nil {
			return
		}
		o.svc.Log.Debug("output is dialled again", "instance", o.id, "stream", s.Name, "error", err)
		if time.Since(reached) > giveUp {
			o.note(api.LogStderr, "[aegis] %s is not collected any more: %v", s.Name, err)
			return
		}
		if !pause(ctx, backoff) {
			return
		}
		backoff = min(2*backoff, longest)
	}
}

// collectOnce collects on one connection and tells where it ended.
func (o *owner) collectOnce(b *boot, ctx context.Context, process string, kind proto.Kind, s logs.Stream, at uint64, known bool) (uint64, error) {
	out, err := guestsession.OpenOutput(ctx, o.dial(b), process, kind, at)
	if err != nil {
		return at, err
	}
	defer out.Close()
	if known && out.Start > at {
		o.note(api.LogStderr, "[aegis] %d bytes of %s are missing here: they could not be written before aegisd ended", out.Start-at, s.Name)
	}
	return o.log.Collect(s, out, out.Start)
}

// await waits until all output is in the log, as long as that may take.
func (out *output) await(ctx context.Context) {
	if out == nil {
		return
	}
	t := time.NewTimer(lastWords)
	defer t.Stop()
	select {
	case <-out.done:
	case <-t.C:
	case <-ctx.Done():
	}
}

// outputs are those of execs.
type outputs struct {
	mu  sync.Mutex // guards all
	all []*output
}

// add keeps those that are not done.
func (l *outputs) add(out *output) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(slices.DeleteFunc(l.all, (*output).over), out)
}

func (l *outputs) each(do func(*output)) {
	l.mu.Lock()
	all := slices.Clone(l.all)
	l.mu.Unlock()
	for _, out := range all {
		do(out)
	}
}

func (out *output) over() bool {
	select {
	case <-out.done:
		return true
	default:
		return false
	}
}

// stop gives up what is not in the log yet.
func (out *output) stop() {
	if out != nil {
		out.cancel()
	}
}
