//go:build !linux

package router

import "syscall"

// patient has nothing to set here.
func patient(_, _ string, _ syscall.RawConn) error { return nil }
