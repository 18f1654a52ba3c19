package logs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/logs"
)

// text gives n bytes of lines of a length.
func text(n, length int) io.Reader {
	line := strings.Repeat("x", length-1) + "\n"
	block := bytes.Repeat([]byte(line), 1+(64<<10)/length)
	return io.LimitReader(endless{bytes.NewReader(block)}, int64(n))
}

type endless struct{ *bytes.Reader }

func (e endless) Read(b []byte) (int, error) {
	n, err := e.Reader.Read(b)
	if errors.Is(err, io.EOF) {
		e.Seek(0, io.SeekStart)
		return e.Reader.Read(b)
	}
	return n, err
}

func BenchmarkCollect(b *testing.B) {
	for _, length := range []int{8, 80, 800} {
		b.Run(fmt.Sprint("lines of ", length), func(b *testing.B) {
			const size = 8 << 20
			b.SetBytes(size)
			for b.Loop() {
				l := logs.New(logs.Config{Dir: b.TempDir(), Log: discard}).Log("inst-1")
				l.Collect(stdout, &source{Reader: text(size, length)}, 0)
			}
		})
	}
}

func BenchmarkRead(b *testing.B) {
	for _, length := range []int{8, 80, 800} {
		b.Run(fmt.Sprint("lines of ", length), func(b *testing.B) {
			const size = 2 << 20
			b.SetBytes(size)
			l := logs.New(logs.Config{Dir: b.TempDir(), Log: discard, FileSize: 1 << 30}).Log("inst-1")
			l.Collect(stdout, &source{Reader: text(size, length)}, 0)
			for b.Loop() {
				s, err := l.Read(b.Context(), api.LogQuery{})
				for err == nil {
					_, err = s.Next()
				}
				s.Close()
			}
		})
	}
}
