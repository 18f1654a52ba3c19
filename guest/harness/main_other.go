//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "harness: it is PID 1 of a Linux guest; build it with GOOS=linux")
	os.Exit(1)
}
