//go:build !linux

package manager

import "os"

// sendersAreKnown is whether the kernel tells which process a worker is.
const sendersAreKnown = false

// findProcess holds a process by its number and takes done, the end of its
// connection, for its end.
func findProcess(pid int, done <-chan struct{}) (Process, error) {
	return answering{done: done, kill: func() error {
		p, err := os.FindProcess(pid)
		if err != nil {
			return err
		}
		return p.Kill()
	}}, nil
}
