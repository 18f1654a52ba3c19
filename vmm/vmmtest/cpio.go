package vmmtest

import (
	"bytes"
	"fmt"
)

// initramfs makes an archive in cpio's newc format with /dev/console, so that
// a static init can print, and, unless init is nil, /init.
func initramfs(init []byte) []byte {
	var b bytes.Buffer
	entry(&b, "dev", 0o040755, 0, 0, nil)
	entry(&b, "dev/console", 0o020600, 5, 1, nil)
	entry(&b, "dev/null", 0o020666, 1, 3, nil)
	if init != nil {
		entry(&b, "init", 0o100755, 0, 0, init)
	}
	entry(&b, "TRAILER!!!", 0, 0, 0, nil)
	return b.Bytes()
}

func entry(b *bytes.Buffer, name string, mode, major, minor int, data []byte) {
	// magic ino mode uid gid nlink mtime filesize devmajor devminor
	// rdevmajor rdevminor namesize check
	fmt.Fprintf(b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		b.Len(), mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name)+1, 0, name)
	pad(b)
	b.Write(data)
	pad(b)
}

func pad(b *bytes.Buffer) { b.Write(make([]byte, -b.Len()&3)) }
