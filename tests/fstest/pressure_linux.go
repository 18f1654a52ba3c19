package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// renames makes names and moves them between two folders, says after
// every twentieth of them how far it is, and counts what is there in the end. No
// call may fail.
func renames(count int) error {
	const files = 100
	for _, dir := range []string{"a", "b"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	at := make([]string, files)
	for i := range at {
		at[i] = fmt.Sprintf("a/%d", i)
		if err := os.WriteFile(at[i], []byte(strconv.Itoa(i)), 0o644); err != nil {
			return err
		}
	}
	for n := range count {
		i := n % files
		to := fmt.Sprintf("%c/%d.%d", "ab"[n/files%2], i, n)
		if err := os.Rename(at[i], to); err != nil {
			return fmt.Errorf("rename %d: %w", n, err)
		}
		at[i] = to
		if (n+1)%max(count/20, 1) == 0 {
			fmt.Println("renamed", n+1)
		}
	}
	return there(at)
}

// there compares what the two folders hold with what they must.
func there(at []string) error {
	var names []string
	for _, dir := range []string{"a", "b"} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			names = append(names, dir+"/"+e.Name())
		}
	}
	if len(names) != len(at) {
		return fmt.Errorf("%d names, want %d: %v", len(names), len(at), names)
	}
	for i, path := range at {
		if b, err := os.ReadFile(path); err != nil || string(b) != strconv.Itoa(i) {
			return fmt.Errorf("%s: %q, %w", path, b, err)
		}
	}
	fmt.Println("all there")
	return nil
}

// hog locks memory until no more than free bytes are left, writes size
// bytes beside it, syncs and compares them.
func hog(size, free int64) error {
	took := int64(0)
	for {
		left, err := unused()
		if err != nil {
			return err
		}
		if left <= free {
			fmt.Printf("%d MiB locked, %d MiB free\n", took>>20, left>>20)
			break
		}
		step := (min(left-free, 8<<20) + 4095) &^ 4095
		m, err := unix.Mmap(-1, 0, int(step), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err == nil {
			err = unix.Mlock(m)
		}
		if err != nil {
			return fmt.Errorf("locking memory: %w", err)
		}
		took += step
	}
	return writeSynced("hog", size)
}

// unused is the memory that nothing has, not even the page cache.
func unused() (int64, error) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), "MemFree:")
	kib, err := strconv.ParseInt(strings.Fields(rest + " x")[0], 10, 64)
	return kib << 10, err
}

// differs tells which bytes are wrong.
func differs(got, want []byte) string {
	first, last, zeros := -1, 0, 0
	for i := range got {
		if got[i] == want[i] {
			continue
		}
		if first < 0 {
			first = i
		}
		last = i
		if got[i] == 0 {
			zeros++
		}
	}
	return fmt.Sprintf("bytes %d to %d, %d of them are zero", first, last, zeros)
}

func writeSynced(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	block := make([]byte, 1<<20)
	fill := func(i int64) {
		for j := range block {
			block[j] = byte(i + int64(j)*7)
		}
	}
	for i := range size >> 20 {
		fill(i)
		if _, err := f.Write(block); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	got := make([]byte, 1<<20)
	for i := range size >> 20 {
		fill(i)
		if _, err := f.ReadAt(got, i<<20); err != nil {
			return err
		}
		if !bytes.Equal(got, block) {
			return fmt.Errorf("MiB %d is not what was written: %s", i, differs(got, block))
		}
	}
	fmt.Println("all there")
	return nil
}
