//go:build !linux

// Package nettest is only for Linux.
package nettest
