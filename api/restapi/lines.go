package restapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/guest/proto"
)

// maxLine is how long a line of output may be, in bytes, before it is cut: so
// that its JSON, escaped, is shorter than the 64 KiB that old clients read.
const maxLine = 8 << 10

// execLine is one line of output.
type execLine struct {
	Time     time.Time `json:"ts"`
	Stream   string    `json:"stream"`
	Line     string    `json:"line"`
	Source   string    `json:"source"`
	Instance string    `json:"instance_id"`
	Exec     string    `json:"exec_id"`
}

// execDone is the last line.
type execDone struct {
	Exec     string `json:"exec_id"`
	ExitCode int    `json:"exit_code"`
	Done     bool   `json:"done"`
}

// teller writes lines, each flushed, from several goroutines.
type teller struct {
	mu  sync.Mutex // guards what follows
	enc *json.Encoder
	out *http.ResponseController
}

func (t *teller) tell(v any) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.enc.Encode(v); err != nil {
		return err
	}
	return t.out.Flush()
}

// tellLines answers with the output of a program as NDJSON. When the client
// goes, the streams are closed, which ends the program.
func tellLines(ctx context.Context, w http.ResponseWriter, instance, exec string, streams *api.Streams) {
	stop := context.AfterFunc(ctx, streams.Close)
	defer stop()
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	t := &teller{enc: json.NewEncoder(w), out: http.NewResponseController(w)}
	if t.tell(execStarted{exec, time.Now().UTC()}) != nil {
		return
	}
	var outputs sync.WaitGroup
	for name, f := range map[string]*os.File{"stdout": streams.Stdout, "stderr": streams.Stderr} {
		outputs.Go(func() {
			eachLine(f, func(text string) error {
				return t.tell(execLine{time.Now().UTC(), name, text, "exec", instance, exec})
			})
		})
	}
	code := exitCode(streams.Status)
	outputs.Wait()
	_ = t.tell(execDone{exec, code, true}) // a client that has gone is no failure of ours
}

// eachLine calls tell with every line, or piece of a long one, until f ends or
// tell fails; then nobody reads f any more.
func eachLine(f *os.File, tell func(string) error) {
	in := bufio.NewReaderSize(f, maxLine)
	for {
		b, err := in.ReadSlice('\n')
		if len(b) > 0 {
			if tell(strings.TrimSuffix(string(b), "\n")) != nil {
				f.Close()
				return
			}
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// exitCode is how the program ended: -1 if a signal ended it, or its machine
// went before.
func exitCode(status *os.File) int {
	s, err := proto.ReadStatus(status)
	if err != nil || s.Signal != 0 {
		return -1
	}
	return s.Code
}
