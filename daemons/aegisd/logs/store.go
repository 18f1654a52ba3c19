// Package logs keeps what instances print: one append-only log per instance,
// in a folder of files that are rotated by size, which any number of readers
// follow by offset. It owns these files and their format; it reads no guest,
// knows nothing of the life of an instance and asks nobody before it writes.
//
// A log is a sequence of bytes that begins at 0 with the instance's creation
// and only grows: NDJSON, one record a line. A file is named by the offset of
// its first byte. Only whole records count: what a killed writer left of one
// is cut off at the next opening. Records are not synced one by one: a killed
// aegisd loses none, a host that loses power may lose the last seconds.
package logs

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/xfeldman/aegisvm/api"
)

// Config is what a Store stands on.
type Config struct {
	// Dir is the folder of all logs; it is made when needed.
	Dir string
	// FileSize is how long a file of a log gets before the next one begins:
	// 10 MiB. Files is how many of them are kept: 3.
	FileSize int64
	Files    int
	// Grace is how long the output of a process waits for a follower that has
	// not read what a rotation would delete: 5 s.
	Grace time.Duration
	Log   *slog.Logger
}

// Store has the logs of all instances.
type Store struct {
	config Config

	mu   sync.Mutex // guards the map
	logs map[string]*Log
}

// New makes a store; it touches nothing yet.
func New(c Config) *Store {
	c.FileSize = cmp.Or(c.FileSize, 10<<20)
	c.Files = cmp.Or(c.Files, 3)
	c.Grace = cmp.Or(c.Grace, 5*time.Second)
	c.Log = c.Log.With("component", "logs")
	return &Store{config: c, logs: map[string]*Log{}}
}

// Log gives the log of an instance, which exists from its first record on.
func (s *Store) Log(id string) *Log {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.logs[id]
	if l == nil {
		l = &Log{config: s.config, id: id, dir: filepath.Join(s.config.Dir, id), changed: make(chan struct{}), followers: map[*follower]struct{}{}}
		s.logs[id] = l
	}
	return l
}

// Remove deletes the log of an instance and ends its readers. It can be
// repeated.
func (s *Store) Remove(id string) error {
	if err := s.Log(id).remove(); err != nil {
		return fmt.Errorf("deleting the log: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.logs, id)
	return nil
}

// Instances tells whose logs there are.
func (s *Store) Instances() ([]string, error) {
	entries, err := os.ReadDir(s.config.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listing logs: %w", err)
	}
	ids := make([]string, len(entries))
	for i, e := range entries {
		ids[i] = e.Name()
	}
	return ids, nil
}

// Close closes the files and ends the readers with Unavailable.
func (s *Store) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.logs {
		l.close(errClosed)
	}
}

var errClosed = api.Errorf(api.Unavailable, "aegisd is stopping: start it again with `aegis up`")
