package workspace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// maxEntry bounds one entry of a journal.
const maxEntry = 16 << 10

// entryHead is length and checksum, four bytes each.
const entryHead = 8

// rewriteFloor is the size below which a journal is not worth rewriting.
const rewriteFloor = 4 << 20

// journal is a file of entries that outlives its process. It need not outlive
// the host: the guest that its entries are about does not either.
type journal struct {
	path string
	file *os.File
	size int64
	// limit is the size at which the journal asks to be rewritten.
	limit int64
}

// openJournal reads the entries there are and goes on after the last whole one.
func openJournal(path string, apply func([]byte) error) (*journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the journal: %w", err)
	}
	all, err := io.ReadAll(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("reading the journal: %w", err)
	}
	j := &journal{path: path, file: f}
	for {
		entry, ok := nextEntry(all[j.size:])
		if !ok {
			break
		}
		if err := apply(entry); err != nil {
			f.Close()
			return nil, fmt.Errorf("reading the journal: %w", err)
		}
		j.size += entryHead + int64(len(entry))
	}
	j.limit = max(rewriteFloor, 2*j.size)
	return j, nil
}

// nextEntry is false at the end and where an entry is torn.
func nextEntry(b []byte) ([]byte, bool) {
	if len(b) < entryHead {
		return nil, false
	}
	n, sum := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
	if n > maxEntry || int(n) > len(b)-entryHead {
		return nil, false
	}
	entry := b[entryHead : entryHead+int(n)]
	return entry, crc32.ChecksumIEEE(entry) == sum
}

// frame appends an entry to b with its head.
func frame(b, entry []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(entry)))
	b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(entry))
	return append(b, entry...)
}

// append writes framed entries at the end. What a failed call leaves there is
// written over by the next one.
func (j *journal) append(framed []byte) error {
	if len(framed) == 0 {
		return nil
	}
	if _, err := j.file.WriteAt(framed, j.size); err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	j.size += int64(len(framed))
	return nil
}

// full tells whether the journal should be rewritten.
func (j *journal) full() bool { return j.size > j.limit }

// rewrite replaces the journal by one that has framed alone.
func (j *journal) rewrite(framed []byte) error {
	fresh := j.path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("rewriting the journal: %w", err)
	}
	f, err := os.OpenFile(fresh, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("rewriting the journal: %w", err)
	}
	if _, err = f.Write(framed); err == nil {
		err = os.Rename(fresh, j.path)
	}
	if err != nil {
		f.Close()
		return fmt.Errorf("rewriting the journal %s: %w", filepath.Base(j.path), err)
	}
	j.file.Close()
	j.file, j.size = f, int64(len(framed))
	j.limit = max(rewriteFloor, 2*j.size)
	return nil
}

// close puts it on disk: a guest that is saved may outlive the host.
func (j *journal) close() error { return errors.Join(j.file.Sync(), j.file.Close()) }
