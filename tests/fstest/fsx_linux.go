package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand"
	"os"

	"golang.org/x/sys/unix"
)

// Bounds of the file of fsx and of one access.
const (
	fsxFile   = 600_000
	fsxAccess = 90_000
)

// random is a file and what must be in it.
type random struct {
	*rand.Rand
	fd    int
	model []byte
	holes bool // the file system makes them
}

// fsx accesses a file at random, in the ways that programs mix, and compares
// what it reads with a copy. The seed makes it the same each time.
func fsx(seed int64, count int) error {
	r := &random{Rand: rand.New(rand.NewSource(seed)), holes: true}
	if err := r.open(unix.O_CREAT | unix.O_EXCL); err != nil {
		return err
	}
	defer func() { unix.Close(r.fd) }()
	all := []struct {
		name string
		do   func() error
	}{
		{"write", r.write},
		{"write", r.write},
		{"map and write", r.mapWrite},
		{"read", r.read},
		{"map and read", r.mapRead},
		{"truncate", r.truncate},
		{"punch a hole", r.punch},
		{"close and open", r.reopen},
		{"sync", func() error { return unix.Fsync(r.fd) }},
		{"append", r.append},
	}
	for i := range count {
		op := all[r.Intn(len(all))]
		if err := op.do(); err != nil {
			return fmt.Errorf("seed %d, access %d, %s: %w", seed, i, op.name, err)
		}
	}
	if err := r.whole(); err != nil {
		return fmt.Errorf("seed %d, at the end: %w", seed, err)
	}
	fmt.Printf("%d accesses, all right\n", count)
	return nil
}

func (r *random) open(how int) (err error) {
	r.fd, err = unix.Open("fsx", unix.O_RDWR|unix.O_CLOEXEC|how, 0o644)
	return err
}

// reopen leaves the kernel nothing of the file in memory.
func (r *random) reopen() error {
	if err := errors.Join(unix.Fsync(r.fd), unix.Fadvise(r.fd, 0, 0, unix.FADV_DONTNEED)); err != nil {
		return err
	}
	if err := unix.Close(r.fd); err != nil {
		return err
	}
	return r.open(0)
}

// part is somewhere in the file as it is.
func (r *random) part() (at, n int) {
	if len(r.model) == 0 {
		return 0, 0
	}
	at = r.Intn(len(r.model))
	return at, min(1+r.Intn(fsxAccess), len(r.model)-at)
}

func (r *random) bytes(n int) []byte {
	b := make([]byte, n)
	r.Read(b)
	return b
}

// put is what a write does to the copy.
func (r *random) put(b []byte, at int) {
	if end := at + len(b); end > len(r.model) {
		r.model = append(r.model, make([]byte, end-len(r.model))...)
	}
	copy(r.model[at:], b)
}

func (r *random) write() error { return r.writeAt(r.Intn(fsxFile)) }

func (r *random) writeAt(at int) error {
	b := r.bytes(1 + r.Intn(fsxAccess))
	n, err := unix.Pwrite(r.fd, b, int64(at))
	if err == nil && n != len(b) {
		err = fmt.Errorf("%d bytes of %d", n, len(b))
	}
	r.put(b, at)
	return err
}

func (r *random) append() error {
	if len(r.model) > fsxFile {
		return nil
	}
	fd, err := unix.Open("fsx", unix.O_WRONLY|unix.O_APPEND|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	b := r.bytes(1 + r.Intn(fsxAccess/10))
	_, err = unix.Write(fd, b)
	r.put(b, len(r.model))
	return errors.Join(err, unix.Close(fd))
}

func (r *random) read() error {
	at, n := r.part()
	b := make([]byte, n)
	m, err := unix.Pread(r.fd, b, int64(at))
	if err != nil {
		return err
	}
	return r.compare(b[:m], at, n)
}

func (r *random) compare(b []byte, at, n int) error {
	want := r.model[at : at+n]
	if len(b) != n {
		return fmt.Errorf("%d bytes of %d at %d of %d", len(b), n, at, len(r.model))
	}
	for i := range b {
		if b[i] != want[i] {
			return fmt.Errorf("byte %d is %#x, want %#x, of %d", at+i, b[i], want[i], len(r.model))
		}
	}
	return nil
}

// mapped gives a part of the file as memory.
func (r *random) mapped(rights int, use func(m []byte, at, n int) error) error {
	at, n := r.part()
	if n == 0 {
		return nil
	}
	skip := at % os.Getpagesize()
	m, err := unix.Mmap(r.fd, int64(at-skip), skip+n, rights, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	err = use(m[skip:], at, n)
	return errors.Join(err, unix.Munmap(m))
}

func (r *random) mapRead() error {
	return r.mapped(unix.PROT_READ, func(m []byte, at, n int) error { return r.compare(bytes.Clone(m), at, n) })
}

func (r *random) mapWrite() error {
	return r.mapped(unix.PROT_READ|unix.PROT_WRITE, func(m []byte, at, n int) error {
		b := r.bytes(n)
		copy(m, b)
		r.put(b, at)
		return nil
	})
}

func (r *random) truncate() error {
	size := r.Intn(fsxFile)
	if size < len(r.model) {
		r.model = r.model[:size:size]
	} else {
		r.put(nil, size)
	}
	return unix.Ftruncate(r.fd, int64(size))
}

// punch makes a hole where the file system can.
func (r *random) punch() error {
	at, n := r.part()
	if n == 0 || !r.holes {
		return nil
	}
	err := unix.Fallocate(r.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(at), int64(n))
	if err == unix.EOPNOTSUPP {
		r.holes = false
		return nil
	}
	r.put(make([]byte, n), at)
	return err
}

// whole compares all of the file, as another open of it has it.
func (r *random) whole() error {
	b, err := os.ReadFile("fsx")
	if err != nil {
		return err
	}
	return r.compare(b, 0, len(r.model))
}
