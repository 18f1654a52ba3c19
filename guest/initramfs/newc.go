package main

import (
	"fmt"
	"io"
)

const magic = "070701"

// File types, as in stat(2).
const (
	typeFile = 0o100000
	typeDir  = 0o040000
	typeChar = 0o020000
)

// entry is one file of an archive. Owner is root and the date 1970.
type entry struct {
	name         string
	mode         uint32
	major, minor uint32 // of a device
	data         []byte
}

// archive writes the kernel's cpio format (newc); the Go libraries for it
// that are worth their size write no device numbers.
type archive struct {
	w     io.Writer
	inode int
}

func (a *archive) add(e entry) error {
	a.inode++
	links := 1
	if e.mode&typeDir != 0 {
		links = 2
	}
	return a.record(a.inode, links, e)
}

// close ends the archive; the kernel wants the next one 4-byte aligned.
func (a *archive) close() error {
	return a.record(0, 1, entry{name: "TRAILER!!!"})
}

func (a *archive) record(inode, links int, e entry) error {
	head := fmt.Sprintf("%s%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", magic,
		inode, e.mode, 0, 0, links, 0, len(e.data), 0, 0, e.major, e.minor, len(e.name)+1, 0)
	head += e.name + "\x00"
	if err := a.padded([]byte(head)); err != nil {
		return err
	}
	return a.padded(e.data)
}

// padded writes b and zeros up to a multiple of four bytes.
func (a *archive) padded(b []byte) error {
	if _, err := a.w.Write(b); err != nil {
		return err
	}
	_, err := a.w.Write(make([]byte, -len(b)&3))
	return err
}
