package instance

import (
	"fmt"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/logs"
	"github.com/xfeldman/aegisvm/image"
)

// note writes a line of aegisd's own into the log of the instance.
func (o *owner) note(stream, text string, args ...any) {
	o.log.Append(logs.System(stream, oneLine(fmt.Sprintf(text, args...))))
}

// noteStart tells that the instance starts, and which time.
func (o *owner) noteStart(b *boot) {
	if b.generation > 1 {
		o.note(api.LogStderr, "[aegis] starting again, start %d", b.generation)
		return
	}
	o.note(api.LogStderr, "[aegis] starting")
}

// noteImage tells each stage of a preparation that takes work.
func (o *owner) noteImage(p image.Progress, last *string) {
	if p.Stage == *last || p.Stage == image.StageResolving || p.Stage == image.StageReady && *last == "" {
		return
	}
	*last = p.Stage
	o.note(api.LogStderr, "[aegis] image %s: %s", p.Stage, firstOf(o.spec.ImageRef, "the base image"))
}

// noteExit tells how the program ended. Older clients look for the last line,
// word for word.
func (o *owner) noteExit(code, signal int, message string) {
	if message != "" || signal != 0 {
		o.note(api.LogStderr, "[aegis] %s", exitText(code, signal, message))
	}
	o.note(api.LogStdout, "process exited (code=%d)", code)
}

// noteRest tells how the instance came to rest.
func (o *owner) noteRest(out outcome) {
	if out.err != nil {
		o.note(api.LogStderr, "[aegis] failed: %v", out.err)
		return
	}
	o.note(api.LogStderr, "[aegis] stopped")
}
