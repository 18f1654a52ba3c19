//go:build !linux

// Package tap is only for Linux.
package tap
